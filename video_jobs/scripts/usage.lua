-- Put before every script: what was used, by day, tenant, key, model and end user.
local KEPT_DAYS = 400

local function use_by(tenant, metric, amount, key_id, model, user)
  local used = named('usage', today .. ':' .. tenant)
  local field = table.concat({metric, key_id or '', model or '', user or ''}, '\31')
  if amount ~= 0 then redis.call('HINCRBY', used, field, amount) end
  redis.call('PEXPIRE', used, KEPT_DAYS * 86400000)
  redis.call('SADD', TENANCY .. 'used', tenant)
end

local function use(id, metric, amount)
  local who = redis.call('HMGET', RECORD .. id, 'tenant', 'key_id', 'model', 'user_id')
  use_by(who[1] or '', metric, amount, who[2], who[3], who[4])
end
