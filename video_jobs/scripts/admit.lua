-- admit: reserve (tenant, request_id) for one job id within the tenant's limits, or say what stands against it.
-- KEYS 15 idempotency record    ARGV 1 job id  2 body hash  3 reservation ms  4 kept ms  5 tenant  6 user
--      7 predicted ms  8 kind  9 line  10 1 with an image  11 workers of the line  12 longest predicted wait in ms
-- returns {new | replay | conflict | pending, job id}; the same job id asking again is new again; new within a rate
--      also says {…, calls a minute, calls left, ms until all are}; or {limited, …} as limits.lua says
local record, id, tenant, user = KEYS[15], ARGV[1], ARGV[5], user_key(ARGV[6])
local known = redis.call('HMGET', record, 'job_id', 'body_hash', 'reserved_until', 'accepted')
if known[1] and (known[4] or tonumber(known[3]) > now) then
  if known[2] ~= ARGV[2] then return {'conflict', known[1]} end
  if known[4] then return {'replay', known[1]} end
  return {known[1] == id and 'new' or 'pending', known[1]}
end
let_go_of_the_dead(now)

local cost, tightest = corrected(ARGV[8], ARGV[7]), nil
local hit = budget_limit(tenant, user, cost) or count_limit(tenant, user, ARGV[10], cost)
  or pool_limit(ARGV[9], cost, ARGV[11], tonumber(ARGV[12]))
if not hit then hit, tightest = rate_limit('rate', 'requests_per_minute', tenant, user) end
if hit then
  use_by(tenant, 'refused', 1)
  return hit
end
redis.call('HSET', record, 'job_id', id, 'body_hash', ARGV[2], 'reserved_until', now + ARGV[3])
redis.call('PEXPIRE', record, ARGV[4])
reserve(tenant, id, user, ARGV[9], cost, ARGV[10], now + ARGV[3])
if not tightest then return {'new', id} end
return {'new', id, tightest.most, tightest.spare, tightest.full_ms}
