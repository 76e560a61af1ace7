-- admit: reserve (tenant, request_id) for one job id within the tenant's limits, or say what stands against it.
-- KEYS 15 idempotency record    ARGV 1 job id  2 body hash  3 reservation ms  4 kept ms  5 tenant  6 user
--      7 predicted ms  8 kind  9 line  10 1 with an image  11 workers of the line  12 longest predicted wait in ms
-- returns {new | replay | conflict | pending, job id}; the same job id asking again is new again;
--      or {limited, which limit, whose: tenant | user | pool, its number, ms until it may pass again (-1: unknown)}
local record, id, tenant, user = KEYS[15], ARGV[1], ARGV[5], user_key(ARGV[6])
local known = redis.call('HMGET', record, 'job_id', 'body_hash', 'reserved_until', 'accepted')
if known[1] and (known[4] or tonumber(known[3]) > now) then
  if known[2] ~= ARGV[2] then return {'conflict', known[1]} end
  if known[4] then return {'replay', known[1]} end
  return {known[1] == id and 'new' or 'pending', known[1]}
end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', named('held', tenant), '-inf', now)) do let_go(tenant, dead) end

local cost, minute = corrected(ARGV[8], ARGV[7]), 60000000
local whose = {{'tenant', '', '', 'all'}}
if user then whose[2] = {'user', 'user_', ':' .. user, user} end

local function refused(which, who, most, wait_ms)
  use_by(tenant, 'refused', 1)
  return {'limited', which, who, tostring(most), math.ceil(wait_ms)}
end

local prepaid = limit(tenant, 'prepaid_gpu_seconds')
if prepaid and number(TENANCY .. 'spent', tenant) + cost > prepaid * 1000 then
  return refused('prepaid_gpu_seconds', 'tenant', prepaid, -1)
end
local open = named('open', tenant)
for _, w in ipairs(whose) do
  for name, period in pairs({gpu_seconds_per_day = today, gpu_seconds_per_month = month_of(today)}) do
    local most = limit(tenant, w[2] .. name)
    if most and number(named('budget', period .. ':' .. tenant), w[4]) + cost > most * 1000 then
      return refused(name, w[1], most, -1)
    end
  end
  local queued = number(open, 'queued' .. w[3]) + number(open, 'held' .. w[3])
  local counts = {queued = queued, in_flight = queued + number(open, 'running' .. w[3]),
    image_intakes = ARGV[10] == '1' and w[1] == 'tenant' and number(open, 'images') or -1}
  for name, count in pairs(counts) do
    local most = limit(tenant, w[2] .. name)
    if most and count >= most then return refused(name, w[1], most, cost) end
  end
end
local wait_ms = (number(TENANCY .. 'backlog', ARGV[9]) + cost) / math.max(1, ARGV[11])
if wait_ms > tonumber(ARGV[12]) then return refused('wait', 'pool', ARGV[12] / 1000, wait_ms - ARGV[12]) end

-- GCRA: each key holds the time at which it would be idle again; a whole minute's calls may come at once.
local passes = {}
for _, w in ipairs(whose) do
  local most = limit(tenant, w[2] .. 'requests_per_minute')
  if most then
    local key = named('rate', string.sub(w[3], 2) .. ':' .. tenant)
    local idle_at = math.max(tonumber(redis.call('GET', key) or 0), now_us) + minute / most
    local late = idle_at - now_us - minute
    if late > 0 then return refused('requests_per_minute', w[1], most, late / 1000) end
    passes[#passes + 1] = {key, idle_at}
  end
end
for _, pass in ipairs(passes) do
  redis.call('SET', pass[1], string.format('%.0f', pass[2]), 'PX', math.ceil((pass[2] - now_us) / 1000) + 1)
end
redis.call('HSET', record, 'job_id', id, 'body_hash', ARGV[2], 'reserved_until', now + ARGV[3])
redis.call('PEXPIRE', record, ARGV[4])
reserve(tenant, id, user, cost, ARGV[10], now + ARGV[3])
return {'new', id}
