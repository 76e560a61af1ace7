-- Put before every script, first: tenants and their terms, the day, and small numbers in hashes.
-- KEYS 1 job: 13 tenancy: (prefixes). Tenants and plans are read on the spot: a changed limit holds at once.
local RECORD, TENANCY = KEYS[1], KEYS[13]
local at = redis.call('TIME')
local now_us, today = at[1] * 1000000 + at[2], math.floor(at[1] / 86400)

local function named(kind, name) return TENANCY .. kind .. ':' .. name end

-- The tenant's own number, else its plan's; nil is no limit, and an empty one is a limit lifted.
local function limit(tenant, name)
  local own = redis.call('HMGET', named('tenant', tenant), name, 'plan')
  return tonumber(own[1] or redis.call('HGET', named('plan', own[2] or 'default'), name) or '')
end

local function user_key(user) return user and user ~= '' and redis.sha1hex(user) or nil end

local function number(key, field) return tonumber(redis.call('HGET', key, field) or 0) end

local function add(key, field, amount)
  if amount ~= 0 and redis.call('HINCRBY', key, field, amount) == 0 then redis.call('HDEL', key, field) end
end
