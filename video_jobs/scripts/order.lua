-- Put before every script: the fair order, who goes next.
-- A line (version:route) has three lanes: interactive, standard, batch. In a lane the tenants stand by virtual time:
-- the device milliseconds charged to them over their weight (start-time fair queueing). A tenant's own jobs stand by
-- rounds over its end users. A tenant at its cap leaves the lane's order, so that it hides nobody.

-- So many starts may pass a waiting lower lane over; then it goes next. Nothing starves, whatever the fleet's size.
local PATIENCE = {[1] = 4, [2] = 16}
local RETURNED = 1e15

local function weight(tenant) return math.max(limit(tenant, 'weight') or 1, 0.001) end

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

-- How much of others' work starts for each own work while a tenant waits: what comes later delays it too. Remembered:
-- where the line's work stood at the tenant's last start, and both amounts, the recent ones for more.
local function pace(lane, tenant)
  local kept = redis.call('HGET', named('pace', lane), tenant)
  return unpack(kept and cjson.decode(kept) or {-1, 0, 0})
end

local function keep_pace(job)
  local worked = redis.call('HINCRBY', TENANCY .. 'worked', job.line, job.cost)
  local last, others, own = pace(job.lane, job.tenant)
  if last >= 0 then others, own = others * 0.9 + worked - job.cost - last, own * 0.9 + job.cost end
  local is_waiting = redis.call('EXISTS', named('queue', job.place)) == 1
  redis.call('HSET', named('pace', job.lane), job.tenant, cjson.encode({is_waiting and worked or -1, others, own}))
end

-- A worker need not swap its adapter if one of the tenant's next jobs has the same. No other tenant waits for that,
-- and the tenant's own first job only a few times.
local NEAR, OVERTAKEN = 8, 3
local function preferred(id, held)
  local job = job_of(id)
  local function adapter(of) return redis.call('HGET', RECORD .. of, 'adapter') or '' end
  if job.turn or adapter(id) == held or number(RECORD .. id, 'overtaken') >= OVERTAKEN then return id end
  for _, other in ipairs(redis.call('ZRANGE', named('queue', job.place), 1, NEAR)) do
    if adapter(other) == held then
      redis.call('HINCRBY', RECORD .. id, 'overtaken', 1)
      return other
    end
  end
  return id
end

-- What starts in one lane counts in the others that the tenant waits in: several classes are no second share.
local function charge_lanes(job)
  for _, lane in ipairs(redis.call('SMEMBERS', named('lanes', job.tenant))) do
    if lane ~= job.lane and string.sub(lane, 1, -3) == job.line then
      redis.call('HINCRBYFLOAT', named('virtual', lane), job.tenant, job.cost / weight(job.tenant))
      seat(lane, job.tenant)
    end
  end
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
    charge_lanes(job)
  end
  leave(id)
  if not job.turn then keep_pace(job) end
end
