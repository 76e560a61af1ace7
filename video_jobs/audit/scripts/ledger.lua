-- Put before every script of the audit: the keys by name, Redis's own time, and how an entry is appended.
-- KEYS 1 audit 2 audit-seq 3 audit-state 4 audit-sealed 5 audit-content 6 audit-checkpoints 7 audit-counts
--      8 audit-nonce: 9 job: (prefixes)
local AUDIT, SEQ, STATE, SEALED, CONTENT, CHECKPOINTS, COUNTS, NONCE, JOB = unpack(KEYS)

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local minute = math.floor(now / 60000)

local function state(name) return redis.call('HGET', STATE, name) end

local function number(name) return tonumber(state(name) or 0) end

-- The entry is a JSON object, never an empty one; it gets the next number and Redis's time.
local function append(entry)
  local head = string.format('{"seq":%.0f,"at_ms":%.0f,', redis.call('INCR', SEQ), now)
  redis.call('RPUSH', AUDIT, head .. string.sub(entry, 2))
end

local function is_full()
  local cap = tonumber(state('cap') or '')
  return cap and tonumber(redis.call('GET', SEQ) or 0) - number('exported') >= cap
end

-- A call that arrives twice counts once.
local function is_new(nonce) return redis.call('SET', NONCE .. nonce, 1, 'NX', 'PX', 60000) end

-- What was counted in a minute that is over becomes one entry.
local function roll()
  local counted = tonumber(redis.call('HGET', COUNTS, 'minute') or '')
  if counted == minute then return end
  local found, counts = redis.call('HGETALL', COUNTS), {}
  for i = 1, #found, 2 do
    if found[i] ~= 'minute' and string.sub(found[i], 1, 4) ~= 'one:' then counts[found[i]] = tonumber(found[i + 1]) end
  end
  if next(counts) then append(cjson.encode({event = 'counted', minute_ms = counted * 60000, counts = counts})) end
  redis.call('DEL', COUNTS)
  redis.call('HSET', COUNTS, 'minute', minute)
end

local function has_turn(fence) return state('fence') == fence end
