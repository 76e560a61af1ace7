-- accept: (reserved) -> queued: the record, the idempotency record, the audit record and the place in line, at once.
-- KEYS 13 idempotency record  14 the tenant's jobs
-- ARGV 1 job id  2 job JSON  3 body hash  4 line  5 route  6 priority  7 kept ms  8… pairs copied into the record
-- returns the id of the accepted job: ours (also the second time), or of the copy that took the reservation over;
--         empty if that copy has another body
local id, record = ARGV[1], KEYS[13]
if redis.call('EXISTS', JOB .. id) == 1 then return id end
local known = redis.call('HMGET', record, 'job_id', 'body_hash', 'accepted')
if known[3] and known[1] ~= id then return known[2] == ARGV[3] and known[1] or '' end
redis.call('HSET', record, 'job_id', id, 'body_hash', ARGV[3], 'accepted', now)
redis.call('PEXPIRE', record, ARGV[7])
-- Lower goes first: the class, then the order of acceptance.
local number = redis.call('INCR', WAITING_SEQ)
local place = ARGV[6] * 1e14 + number
redis.call('ZADD', KEYS[14], number, id)
redis.call('HSET', JOB .. id, 'job', ARGV[2], 'state', 'queued', 'accepted_ms', now,
  'line', ARGV[4], 'route', ARGV[5], 'place', string.format('%.0f', place))
for i = 8, #ARGV, 2 do redis.call('HSET', JOB .. id, ARGV[i], ARGV[i + 1]) end
audit(id, 'accepted', '')
line_up(id)
return id
