-- Put before every script: the keys by name, Redis's own time, and the moves that several transitions share.
-- KEYS 1 job: 2 attempts: 3 waiting: 4 wake: 5 claim-nonce: (prefixes)  6 leases 7 dead 8 audit 9 audit-seq
--      10 reaped-ms 11 waiting-seq 12 the cancel channel 13 tenancy: (a prefix, see tenants.lua) 14 schedule: (a prefix);
--      15 an idempotency record, 16 a tenant's jobs where a script says so
local JOB, ATTEMPTS, WAITING, WAKE, NONCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local LEASES, DEAD, AUDIT, AUDIT_SEQ = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local REAPED, WAITING_SEQ, CANCELS = KEYS[10], KEYS[11], KEYS[12]
-- Jobs by a time: that wait for their next attempt, that must start or end by then, and that have ended.
local DELAYED, DEADLINES, ENDED = KEYS[14] .. 'delayed', KEYS[14] .. 'deadlines', KEYS[14] .. 'ended'
-- Routes that give no job out, and how many open jobs need each stored image.
local PAUSED, IMAGES = KEYS[14] .. 'paused', KEYS[14] .. 'images'
-- Checkpoints that nobody will go on from: the sweeper deletes them.
local SPENT = KEYS[14] .. 'spent'
local WAKE_TOKENS = 255

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function get(id, name)
  return redis.call('HGET', JOB .. id, name)
end

-- One entry per change, numbered without gaps: it is appended where the change is made, and the sealer shapes it.
local function audit(id, event, detail)
  local who = redis.call('HMGET', JOB .. id, 'tenant', 'key_id', 'user_id', 'request_id', 'model')
  local is_first, is_last = event == 'accepted', event == 'succeeded' or event == 'failed' or event == 'cancelled'
  redis.call('RPUSH', AUDIT, cjson.encode({
    seq = redis.call('INCR', AUDIT_SEQ), at_ms = now, event = event, detail = detail, task_id = id,
    tenant = who[1] or nil, key_id = who[2] or nil, user_id = who[3] or nil, request_id = who[4] or nil,
    model = who[5] or nil, job = is_first and get(id, 'job') or nil, origin = is_first and get(id, 'origin') or nil,
    outcome = is_last and get(id, 'outcome') or nil,
  }))
  -- Where a request came from is the audit's alone.
  if is_first then redis.call('HDEL', JOB .. id, 'origin') end
end

-- Records that are not yet sealed and exported; the sealer sets the cap.
local function audit_is_full()
  local state = redis.call('HMGET', AUDIT .. '-state', 'cap', 'exported')
  return state[1] and tonumber(redis.call('GET', AUDIT_SEQ) or 0) - tonumber(state[2] or 0) >= tonumber(state[1])
end

-- A job goes into line at the place it was given on accept; one handed back has had its turn and goes first.
local function line_up(id)
  local at = redis.call('HMGET', JOB .. id, 'line', 'place', 'route')
  redis.call('ZADD', WAITING .. at[1], at[2], id)
  count_as(id, 'queued')
  join(id)
  redis.call('LPUSH', WAKE .. at[3], '1')
  redis.call('LTRIM', WAKE .. at[3], 0, WAKE_TOKENS)
end

local function close_attempt(id, why)
  local last = redis.call('LINDEX', ATTEMPTS .. id, -1)
  if not last then return end
  local attempt = cjson.decode(last)
  attempt.ended_ms, attempt.ended_by = now, why
  redis.call('LSET', ATTEMPTS .. id, -1, cjson.encode(attempt))
end

-- From now on for as long as the job's own limit says; 0 is for ever.
local function give_until(id, limit)
  local ms = tonumber(get(id, limit) or 0)
  if ms > 0 then redis.call('ZADD', DEADLINES, now + ms, id) else redis.call('ZREM', DEADLINES, id) end
end

local function need_image(id, amount)
  local image = get(id, 'image')
  if image then add(IMAGES, image, amount) end
end

local function end_job(id, state, code, message)
  for _, others in ipairs({LEASES, DELAYED, DEADLINES}) do redis.call('ZREM', others, id) end
  redis.call('ZREM', WAITING .. get(id, 'line'), id)
  leave(id)
  count_as(id, '')
  settle(id, state)
  redis.call('HSET', JOB .. id, 'state', state, 'finished_ms', now)
  redis.call('ZADD', ENDED, now, id)
  local checkpoint = get(id, 'checkpoint')
  if checkpoint then redis.call('SADD', SPENT, checkpoint) end
  need_image(id, -1)
  if code ~= '' then redis.call('HSET', JOB .. id, 'error_code', code, 'error_message', message) end
  audit(id, state, code)
end

-- A job whose attempt is over: cancelled if that was asked, otherwise back in line, at once or after a pause.
local function hand_on(id, why, pause_ms)
  close_attempt(id, why)
  redis.call('ZREM', LEASES, id)
  if get(id, 'cancel') then
    end_job(id, 'cancelled', 'cancelled', 'The job was cancelled by its owner.')
    return 'cancelled'
  end
  redis.call('HSET', JOB .. id, 'state', 'queued')
  count_as(id, 'queued')
  audit(id, 'requeued', why)
  if (pause_ms or 0) > 0 then redis.call('ZADD', DELAYED, now + pause_ms, id) else line_up(id) end
  return 'queued'
end

-- A job that failed too often; one that was asked to stop anyway ends as cancelled.
local function condemn(id, code, message)
  if get(id, 'cancel') then return hand_on(id, code) end
  close_attempt(id, code)
  end_job(id, 'failed', code, message)
  redis.call('ZADD', DEAD, now, id)
  return 'failed'
end

-- Whether the caller still holds the job: tokens are compared whole.
local function is_held(id, token)
  return get(id, 'token') == token and get(id, 'state') == 'running'
end

local function hold(id, token)
  if not is_held(id, token) then return 'lost' end
  return get(id, 'cancel') and 'cancel' or 'held'
end
