-- requeue: running -> queued, charged for what went wrong; or failed when it went wrong too often.
-- ARGV 1 job id  2 token  3 why (an error code)  4 free | attempt | engine_death  5 limit of that charge  6 message
--      7 pause ms before the second attempt, doubled for each one more  8 what the history tells besides, or empty
-- returns queued | failed | cancelled | lost; the second time as the first
local id, charge = ARGV[1], ARGV[4]
if get(id, 'token') ~= ARGV[2] then return 'lost' end
if get(id, 'state') ~= 'running' then return get(id, 'handed_on_as') or 'lost' end
local last = ARGV[8] ~= '' and redis.call('LINDEX', ATTEMPTS .. id, -1)
if last then
  local attempt = cjson.decode(last)
  attempt.detail = ARGV[8]
  redis.call('LSET', ATTEMPTS .. id, -1, cjson.encode(attempt))
end
local counters = {attempt = 'failed_attempts', engine_death = 'engine_deaths'}
local spent = counters[charge] and redis.call('HINCRBY', JOB .. id, counters[charge], 1) or 0
local how
if counters[charge] and spent >= tonumber(ARGV[5]) then
  local code = charge == 'engine_death' and 'poison' or ARGV[3]
  how = condemn(id, code, ARGV[6])
else
  how = hand_on(id, ARGV[3], charge == 'attempt' and ARGV[7] * 2 ^ (spent - 1) or 0)
end
redis.call('HSET', JOB .. id, 'handed_on_as', how)
return how
