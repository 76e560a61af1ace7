-- reap: running -> queued for every lease that ended, or failed for a job that loses them without getting on,
-- or cancelled for a job that was asked to stop; queued or running -> failed past a deadline; paused jobs into line.
-- ARGV 1 lease ms  2 gap ms  3 most per call  4 limit of lost leases  5 message  6 too late  7 too long
-- returns the ids handed on or ended. If nobody has reaped for longer than the gap, Redis or everybody was away:
-- every lease is extended by that time instead, as if it had not passed, so that an outage does not look like the death
-- of every worker and the orphans of dead ones still wait for no more than a lease; and no running job reaches its limit
-- before a lease is over.
local before = tonumber(redis.call('GET', REAPED) or 0)
redis.call('SET', REAPED, now)
if now - before > tonumber(ARGV[2]) then
  local held = redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
  for at = 1, #held, 2 do
    local id, ends = held[at], math.min(held[at + 1] + now - before, now + ARGV[1])
    redis.call('ZADD', LEASES, 'GT', ends, id)
    -- What was finished meanwhile could not be published: a limit that has passed waits for it.
    redis.call('ZADD', DEADLINES, 'XX', 'GT', now + ARGV[1], id)
    audit(id, 'lease extended', 'nobody reaped')
  end
  return {}
end
-- The clock went back: a lease or a pause that the old clock gave would last longer by the whole step.
local back = before - now
if back > tonumber(ARGV[2]) then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '(' .. before, '+inf')) do
    redis.call('ZADD', LEASES, now + ARGV[1], id)
    audit(id, 'lease shortened', 'the clock went back')
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '(' .. before, '+inf')) do
    redis.call('ZINCRBY', DELAYED, -back, id)
  end
end
local handed_on = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  if redis.call('HINCRBY', JOB .. id, 'lost_leases', 1) >= tonumber(ARGV[4]) then
    condemn(id, 'poison', ARGV[5])
  else
    hand_on(id, 'lease lost')
  end
  handed_on[#handed_on + 1] = id
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local has_started = get(id, 'started_ms')
  local code, message = has_started and 'run_too_long' or 'start_too_late', has_started and ARGV[7] or ARGV[6]
  if get(id, 'cancel') then
    hand_on(id, code)
  else
    if get(id, 'state') == 'running' then close_attempt(id, code) end
    end_job(id, 'failed', code, message)
  end
  redis.call('PUBLISH', CANCELS, id)
  handed_on[#handed_on + 1] = id
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  redis.call('ZREM', DELAYED, id)
  line_up(id)
end
return handed_on
