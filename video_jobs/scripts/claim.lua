-- claim: queued -> running: the next in turn of any of the worker's routes that is not paused, under a new token.
-- ARGV 1 worker  2 nonce  3 lease ms  4 the adapter that the worker holds  5… lines
-- returns {job id, token} or nothing; the same nonce asking again, after an outage too, gets the same job and a
-- whole lease while it still holds it
local nonce_key = NONCE .. ARGV[2]
local before = redis.call('GET', nonce_key)
if before then
  local token = get(before, 'token')
  if not (token and string.sub(token, -#ARGV[2]) == ARGV[2] and is_held(before, token)) then return {} end
  redis.call('ZADD', LEASES, now + ARGV[3], before)
  return {before, token}
end

local lines = {}
for i = 5, #ARGV do
  local route = string.match(ARGV[i], '^%d+:(.*)$')
  if redis.call('HEXISTS', PAUSED, '*') + redis.call('HEXISTS', PAUSED, route) == 0 then lines[#lines + 1] = ARGV[i] end
end
local id = next_in_turn(lines)
if not id then return {} end
id = preferred(id, ARGV[4])
redis.call('ZREM', WAITING .. get(id, 'line'), id)
start_turn(id)
count_as(id, 'running')
local token = redis.call('HINCRBY', JOB .. id, 'claims', 1) .. ':' .. ARGV[2]
redis.call('HSET', JOB .. id, 'state', 'running', 'token', token)
-- What requeue answered for an earlier token is no answer for this one.
redis.call('HDEL', JOB .. id, 'handed_on_as')
if redis.call('HSETNX', JOB .. id, 'started_ms', now) == 1 then give_until(id, 'run_limit') end
redis.call('ZADD', LEASES, now + ARGV[3], id)
redis.call('RPUSH', ATTEMPTS .. id, cjson.encode({token = token, worker = ARGV[1], started_ms = now}))
redis.call('SET', nonce_key, id, 'PX', 3600000)
audit(id, 'claimed', ARGV[1])
return {id, token}
