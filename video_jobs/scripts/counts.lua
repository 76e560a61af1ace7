-- Put before every script: what a tenant and its end users have open: jobs queued and running, requests being admitted.

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
    if name == 'running' then
      add(TENANCY .. 'backlog', 'running:' .. job.line, amount * job.cost)
      add(TENANCY .. 'backlog', 'runners:' .. job.line, amount)
    end
  end
  redis.call('HSET', RECORD .. id, 'counted', what)
  if limit(job.tenant, 'running') then
    for _, lane in ipairs(redis.call('SMEMBERS', named('lanes', job.tenant))) do seat(lane, job.tenant) end
  end
end

local function let_go(id)
  local held = redis.call('HGET', TENANCY .. 'holds', id)
  if not held then return end
  local tenant, user, day, cost, has_image, line = unpack(cjson.decode(held))
  local open = named('open', tenant)
  user = user ~= '' and user or nil
  redis.call('HDEL', TENANCY .. 'holds', id)
  redis.call('ZREM', TENANCY .. 'held', id)
  add(open, 'held', -1)
  if user then add(open, 'held:' .. user, -1) end
  if has_image == '1' then add(open, 'images', -1) end
  add(TENANCY .. 'backlog', 'held:' .. line, -cost)
  charge(tenant, user, day, -cost)
end

-- A reservation takes its place and its cost; what is neither accepted nor released is given back when it expires.
local function reserve(tenant, id, user, line, cost, has_image, until_ms)
  local open = named('open', tenant)
  let_go(id)
  redis.call('HSET', TENANCY .. 'holds', id, cjson.encode({tenant, user or '', today, cost, has_image, line}))
  redis.call('ZADD', TENANCY .. 'held', until_ms, id)
  add(open, 'held', 1)
  if user then add(open, 'held:' .. user, 1) end
  if has_image == '1' then add(open, 'images', 1) end
  add(TENANCY .. 'backlog', 'held:' .. line, cost)
  charge(tenant, user, today, cost)
end

-- Of gateways that died between admit and accept nothing is left behind, whoever asks next.
local function let_go_of_the_dead(now_ms)
  local dead = redis.call('ZRANGEBYSCORE', TENANCY .. 'held', '-inf', now_ms, 'LIMIT', 0, 100)
  for _, id in ipairs(dead) do let_go(id) end
end
