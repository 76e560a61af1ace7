-- Put before house.lua: who goes next, and what each tenant and end user has open, spent and used.
-- A line (version:route) has three lanes: interactive, standard, batch. In a lane the tenants stand by virtual time:
-- the device milliseconds charged to them over their weight (start-time fair queueing). A tenant's own jobs stand by
-- rounds over its end users. A tenant at its cap leaves the lane's order, so that it hides nobody.
-- KEYS 1 job: 13 tenancy: (prefixes). Tenants and plans are read on the spot: a changed limit holds at once.
local RECORD, TENANCY = KEYS[1], KEYS[13]
-- So many starts may pass a waiting lower lane over; then it goes next. Nothing starves, whatever the fleet's size.
local PATIENCE = {[1] = 4, [2] = 16}
local RETURNED, KEPT_DAYS = 1e15, 400
local at = redis.call('TIME')
local now_us, today = at[1] * 1000000 + at[2], math.floor(at[1] / 86400)

local function named(kind, name) return TENANCY .. kind .. ':' .. name end

-- The tenant's own number, else its plan's; nil is no limit.
local function limit(tenant, name)
  local own = redis.call('HMGET', named('tenant', tenant), name, 'plan')
  return tonumber(own[1] or redis.call('HGET', named('plan', own[2] or 'default'), name) or '')
end

local function weight(tenant) return math.max(limit(tenant, 'weight') or 1, 0.001) end

local function user_key(user) return user and user ~= '' and redis.sha1hex(user) or nil end

local function number(key, field) return tonumber(redis.call('HGET', key, field) or 0) end

local function add(key, field, amount)
  if redis.call('HINCRBY', key, field, amount) == 0 then redis.call('HDEL', key, field) end
end

local function job_of(id)
  local f = redis.call('HMGET', RECORD .. id, 'tenant', 'user_id', 'line', 'class', 'cost', 'round', 'turn', 'counted')
  local job = {id = id, tenant = f[1] or '', user = f[2], line = f[3], cost = tonumber(f[5] or 0),
    round = tonumber(f[6] or ''), turn = tonumber(f[7] or ''), counted = f[8]}
  job.lane = f[3] and f[3] .. ':' .. (f[4] or 1)
  job.place = job.lane and job.lane .. ':' .. job.tenant
  return job
end

local function virtual_time(lane, tenant)
  return math.max(number(named('virtual', lane), tenant), number(TENANCY .. 'clock', lane))
end

-- Where a tenant stands in a lane: nowhere without jobs or at its cap, in front with a job that was handed back.
local function seat(lane, tenant)
  local turns, cap = named('turns', lane), limit(tenant, 'running')
  local head = redis.call('ZRANGE', named('queue', lane .. ':' .. tenant), 0, 0, 'WITHSCORES')
  if not head[1] or (cap and number(named('open', tenant), 'running') >= cap) then
    return redis.call('ZREM', turns, tenant)
  end
  local is_new, stands_at = not redis.call('ZSCORE', turns, tenant), tonumber(head[2])
  if stands_at >= 0 then
    -- Time spent away is no credit.
    stands_at = is_new and virtual_time(lane, tenant) or number(named('virtual', lane), tenant)
    if is_new then redis.call('HSET', named('virtual', lane), tenant, stands_at) end
  end
  redis.call('ZADD', turns, stands_at, tenant)
end

local function join(id)
  local job = job_of(id)
  local rounds, user = named('rounds', job.place), 'u' .. (job.user or '')
  if not job.turn and not job.round then
    local last = tonumber(redis.call('ZSCORE', rounds, user) or 0)
    job.round = math.max(last, number(TENANCY .. 'round', job.place)) + 1
    redis.call('ZADD', rounds, job.round, user)
    redis.call('HSET', RECORD .. id, 'round', job.round)
  end
  local score = job.turn and job.turn - RETURNED or job.round
  if redis.call('ZADD', named('queue', job.place), score, id) == 0 then return end
  add(TENANCY .. 'backlog', job.place, job.cost)
  add(TENANCY .. 'backlog', job.line, job.cost)
  redis.call('SADD', named('lanes', job.tenant), job.lane)
  seat(job.lane, job.tenant)
end

local function leave(id)
  local job = job_of(id)
  if not job.place or redis.call('ZREM', named('queue', job.place), id) == 0 then return end
  add(TENANCY .. 'backlog', job.place, -job.cost)
  add(TENANCY .. 'backlog', job.line, -job.cost)
  if redis.call('EXISTS', named('queue', job.place)) == 0 then
    redis.call('DEL', named('rounds', job.place))
    redis.call('HDEL', TENANCY .. 'round', job.place)
    redis.call('SREM', named('lanes', job.tenant), job.lane)
  end
  seat(job.lane, job.tenant)
end

-- The next job of these lines, or nothing: first what was handed back, then a lane passed over too often, then by class.
local function next_in_turn(lines)
  local best, seen = nil, {}
  for _, line in ipairs(lines) do
    for class = 0, 2 do
      local lane = line .. ':' .. class
      local head = redis.call('ZRANGE', named('turns', lane), 0, 0, 'WITHSCORES')
      if head[1] then
        local passed = number(TENANCY .. 'passed', lane)
        local rank = tonumber(head[2]) < 0 and -2 or passed >= (PATIENCE[class] or math.huge) and -1 or class
        seen[#seen + 1] = lane
        if not best or rank < best.rank or (rank == best.rank and passed > best.passed) then
          best = {lane = lane, tenant = head[1], rank = rank, passed = passed}
        end
      end
    end
  end
  if not best then return nil end
  for _, lane in ipairs(seen) do
    if lane ~= best.lane then redis.call('HINCRBY', TENANCY .. 'passed', lane, 1) end
  end
  redis.call('HDEL', TENANCY .. 'passed', best.lane)
  return redis.call('ZRANGE', named('queue', best.lane .. ':' .. best.tenant), 0, 0)[1]
end

-- The tenant is charged when its job starts, and only the first time.
local function start_turn(id)
  local job = job_of(id)
  if not job.turn then
    local stood_at = virtual_time(job.lane, job.tenant)
    redis.call('HSET', named('virtual', job.lane), job.tenant, stood_at + job.cost / weight(job.tenant))
    redis.call('HSET', TENANCY .. 'clock', job.lane, stood_at)
    redis.call('HSET', RECORD .. id, 'turn', redis.call('INCR', TENANCY .. 'turn-seq'))
    redis.call('HSET', TENANCY .. 'round', job.place, job.round)
    redis.call('ZREMRANGEBYSCORE', named('rounds', job.place), '-inf', job.round)
  end
  leave(id)
end

-- A job is counted as queued, running or, once ended, not at all; asking twice changes nothing.
local function count_as(id, what)
  local job = job_of(id)
  if (job.counted or '') == what then return end
  local open, user = named('open', job.tenant), user_key(job.user)
  for name, amount in pairs({[job.counted or ''] = -1, [what] = 1}) do
    if name ~= '' then
      add(open, name, amount)
      if user then add(open, name .. ':' .. user, amount) end
    end
    if name == 'running' then add(TENANCY .. 'backlog', 'running:' .. job.line, amount * job.cost) end
  end
  redis.call('HSET', RECORD .. id, 'counted', what)
  if limit(job.tenant, 'running') then
    for _, lane in ipairs(redis.call('SMEMBERS', named('lanes', job.tenant))) do seat(lane, job.tenant) end
  end
end

-- 2026-11 for a day counted from 1970 (Howard Hinnant's civil_from_days).
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local mp = math.floor((5 * (doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))) + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return string.format('%d-%02d', yoe + era * 400 + (month <= 2 and 1 or 0), month)
end

-- Device milliseconds spent by a tenant and its end user, in the day and month of acceptance and in all.
local function charge(tenant, user, day, ms)
  if ms == 0 then return end
  for _, period in ipairs({day, month_of(day)}) do
    local spent = named('budget', period .. ':' .. tenant)
    redis.call('HINCRBY', spent, 'all', ms)
    if user then redis.call('HINCRBY', spent, user, ms) end
    redis.call('PEXPIRE', spent, 40 * 86400000)
  end
  add(TENANCY .. 'spent', tenant, ms)
end

local function use_by(tenant, metric, amount, key_id, model, user)
  local used = named('usage', today .. ':' .. tenant)
  local field = table.concat({metric, key_id or '', model or '', user or ''}, '\31')
  if amount ~= 0 then redis.call('HINCRBY', used, field, amount) end
  redis.call('PEXPIRE', used, KEPT_DAYS * 86400000)
end

local function use(id, metric, amount)
  local who = redis.call('HMGET', RECORD .. id, 'tenant', 'key_id', 'model', 'user_id')
  use_by(who[1] or '', metric, amount, who[2], who[3], who[4])
end

-- What was charged on accept becomes what was measured; a video that was not made is given back.
local function settle(id, state)
  local f = redis.call('HMGET', RECORD .. id, 'tenant', 'user_id', 'charged', 'day', 'gpu_ms', 'predicted', 'kind',
    'seconds', 'line', 'class')
  local charged, gpu_ms = tonumber(f[3] or 0), tonumber(f[5] or '')
  local due = state == 'succeeded' and (gpu_ms or charged) or 0
  if f[4] then charge(f[1], user_key(f[2]), tonumber(f[4]), due - charged) end
  redis.call('HSET', RECORD .. id, 'charged', due)
  use(id, 'gpu_ms', gpu_ms or 0)
  if state ~= 'succeeded' then return use(id, state, 1) end
  use(id, 'videos', 1)
  use(id, 'seconds', tonumber(f[8] or 0))
  if not gpu_ms then return end
  if tonumber(f[6] or 0) > 0 then
    local before = tonumber(redis.call('HGET', TENANCY .. 'measured', f[7]) or 1)
    local told = math.min(math.max(gpu_ms / f[6], 0.01), 100)
    redis.call('HSET', TENANCY .. 'measured', f[7], before + (told - before) / 8)
  end
  local job = job_of(id)
  if not job.turn then return end
  redis.call('HINCRBYFLOAT', named('virtual', job.lane), job.tenant, (gpu_ms - job.cost) / weight(job.tenant))
  seat(job.lane, job.tenant)
end

-- Predicted milliseconds, corrected by what such videos took before.
local function corrected(kind, predicted)
  return math.floor(predicted * tonumber(redis.call('HGET', TENANCY .. 'measured', kind) or 1) + 0.5)
end

-- A reservation takes its place and its cost; what is neither accepted nor released is given back when it expires.
local function reserve(tenant, id, user, cost, has_image, until_ms)
  local held = cjson.encode({user or '', today, cost, has_image})
  redis.call('HSET', named('holds', tenant), id, held)
  redis.call('ZADD', named('held', tenant), until_ms, id)
  add(named('open', tenant), 'held', 1)
  if user then add(named('open', tenant), 'held:' .. user, 1) end
  if has_image == '1' then add(named('open', tenant), 'images', 1) end
  charge(tenant, user, today, cost)
end

local function let_go(tenant, id)
  local held = redis.call('HGET', named('holds', tenant), id)
  if not held then return end
  local user, day, cost, has_image = unpack(cjson.decode(held))
  user = user ~= '' and user or nil
  redis.call('HDEL', named('holds', tenant), id)
  redis.call('ZREM', named('held', tenant), id)
  add(named('open', tenant), 'held', -1)
  if user then add(named('open', tenant), 'held:' .. user, -1) end
  if has_image == '1' then add(named('open', tenant), 'images', -1) end
  charge(tenant, user, day, -cost)
end
