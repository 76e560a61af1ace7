-- admit: reserve (tenant, request_id) for one job id, or say what it already belongs to.
-- KEYS 13 idempotency record    ARGV 1 job id  2 body hash  3 reservation ms  4 kept ms
-- returns {new | replay | conflict | pending, job id}; the same job id asking again is new again
local record, id = KEYS[13], ARGV[1]
local known = redis.call('HMGET', record, 'job_id', 'body_hash', 'reserved_until', 'accepted')
if known[1] and (known[4] or tonumber(known[3]) > now) then
  if known[2] ~= ARGV[2] then return {'conflict', known[1]} end
  if known[4] then return {'replay', known[1]} end
  return {known[1] == id and 'new' or 'pending', known[1]}
end
redis.call('HSET', record, 'job_id', id, 'body_hash', ARGV[2], 'reserved_until', now + ARGV[3])
redis.call('PEXPIRE', record, ARGV[4])
return {'new', id}
