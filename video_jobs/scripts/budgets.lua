-- Put before every script: device milliseconds, predicted on accept and settled by what was measured.

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

-- Predicted milliseconds, corrected by what such videos took before.
local function corrected(kind, predicted)
  return math.floor(predicted * tonumber(redis.call('HGET', TENANCY .. 'measured', kind) or 1) + 0.5)
end

-- The time of the last attempt of a job that its owner stopped: else quotas would be free for who stops in time.
local function ran_for(id)
  local last = redis.call('LINDEX', KEYS[2] .. id, -1)
  local attempt = last and cjson.decode(last)
  return attempt and attempt.ended_ms and attempt.ended_ms - attempt.started_ms or 0
end

-- What was charged on accept becomes what was measured; a video that was not made is given back.
local function settle(id, state)
  local f = redis.call('HMGET', RECORD .. id, 'tenant', 'user_id', 'charged', 'day', 'gpu_ms', 'predicted', 'kind',
    'seconds', 'line', 'class', 'cancelled_in_line')
  local charged, gpu_ms = tonumber(f[3] or 0), tonumber(f[5] or '')
  local due = state == 'succeeded' and (gpu_ms or charged) or 0
  if state == 'cancelled' and not f[11] then
    gpu_ms = math.min(charged, ran_for(id))
    due = gpu_ms
  end
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
