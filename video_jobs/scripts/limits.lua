-- Put before every script: which limit stands against a request, in the order in which they are told.
-- Each answers nothing, or {limited, which limit, whose: tenant | user | pool, its number, ms until it may pass (-1:
-- nobody knows)}.
local MINUTE_US, LONGEST_GUESS_MS = 60000000, 60000

local function limited(which, whose, most, wait_ms)
  return {'limited', which, whose, tostring(most), math.ceil(wait_ms)}
end

-- The tenant's limits, and each of its end users' own: name, prefix of the limits' names, suffix of counts.
local function holders(user)
  local all = {{'tenant', '', '', 'all'}}
  if user then all[2] = {'user', 'user_', ':' .. user, user} end
  return all
end

local function ms_of_this_day() return math.ceil((today + 1) * 86400000 - now_us / 1000) end

local function ms_of_this_month()
  local day = today + 1
  while month_of(day) == month_of(today) do day = day + 1 end
  return math.ceil(day * 86400000 - now_us / 1000)
end

local function budget_limit(tenant, user, cost)
  local prepaid = limit(tenant, 'prepaid_gpu_seconds')
  if prepaid and number(TENANCY .. 'spent', tenant) + cost > prepaid * 1000 then
    return limited('prepaid_gpu_seconds', 'tenant', prepaid, -1)
  end
  local month = {'gpu_seconds_per_month', month_of(today), ms_of_this_month}
  local periods = {month, {'gpu_seconds_per_day', today, ms_of_this_day}}
  for _, who in ipairs(holders(user)) do
    for _, period in ipairs(periods) do
      local most = limit(tenant, who[2] .. period[1])
      if most and number(named('budget', period[2] .. ':' .. tenant), who[4]) + cost > most * 1000 then
        return limited(period[1], who[1], most, period[3]())
      end
    end
  end
end

local function count_limit(tenant, user, has_image, cost)
  local open, wait_ms = named('open', tenant), math.min(cost, LONGEST_GUESS_MS)
  for _, who in ipairs(holders(user)) do
    local queued = number(open, 'queued' .. who[3]) + number(open, 'held' .. who[3])
    local counts = {{'in_flight', queued + number(open, 'running' .. who[3])}, {'queued', queued}}
    if has_image == '1' and who[1] == 'tenant' then counts[3] = {'image_intakes', number(open, 'images')} end
    for _, count in ipairs(counts) do
      local most = limit(tenant, who[2] .. count[1])
      if most and count[2] >= most then return limited(count[1], who[1], most, wait_ms) end
    end
  end
end

local function pool_limit(line, cost, workers, longest_ms)
  local waiting = number(TENANCY .. 'backlog', line) + number(TENANCY .. 'backlog', 'held:' .. line)
  local wait_ms = (waiting + cost) / math.max(1, workers)
  if wait_ms > longest_ms then return limited('wait', 'pool', longest_ms / 1000, wait_ms - longest_ms) end
end

-- GCRA: a key holds the time at which it would be idle again; a whole minute's calls may come at once.
local function rate(kind, tenant, who, most)
  local key = named(kind, string.sub(who[3], 2) .. ':' .. tenant)
  local was_idle_us = tonumber(redis.call('GET', key) or 0)
  -- So far ahead it was never put: the clock went back, and closes nobody out.
  if was_idle_us > now_us + MINUTE_US + 1000000 then was_idle_us = 0 end
  local idle_us = math.max(was_idle_us, now_us) + MINUTE_US / most
  local spare_us = now_us + MINUTE_US - idle_us
  return {key = key, idle_us = idle_us, most = most, spare = math.floor(spare_us * most / MINUTE_US),
    late_ms = -spare_us / 1000, full_ms = math.ceil((idle_us - now_us) / 1000)}
end

-- The limit that is hit, or nothing and the rate with the fewest calls to spare. Refused calls use nothing up.
local function rate_limit(kind, which, tenant, user)
  local passing, tightest = {}, nil
  for _, who in ipairs(holders(user)) do
    local most = limit(tenant, who[2] .. which)
    local found = most and rate(kind, tenant, who, most)
    if found and found.late_ms > 0 then return limited(which, who[1], most, found.late_ms) end
    if found then passing[#passing + 1] = found end
  end
  for _, found in ipairs(passing) do
    redis.call('SET', found.key, string.format('%.0f', found.idle_us), 'PX', found.full_ms + 1)
    if not tightest or found.spare < tightest.spare then tightest = found end
  end
  return nil, tightest
end
