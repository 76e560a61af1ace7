-- accept: (reserved) -> queued: the record, the idempotency record, the audit record and the place in line, at once.
-- KEYS 15 idempotency record  16 the tenant's jobs
-- ARGV 1 job id  2 job JSON  3 body hash  4 line  5 route  6 class  7 kept ms  8 predicted ms  9 tenant  10 user
--      11 kind  12… pairs copied into the record
-- returns the id of the accepted job: ours (also the second time), or of the copy that took the reservation over;
--         empty if that copy has another body
local id, record = ARGV[1], KEYS[15]
if redis.call('EXISTS', JOB .. id) == 1 then return id end
if audit_is_full() then return redis.error_reply('AUDITFULL no job is accepted that could not be audited') end
let_go(id)
local known = redis.call('HMGET', record, 'job_id', 'body_hash', 'accepted')
if known[3] and known[1] ~= id then return known[2] == ARGV[3] and known[1] or '' end
redis.call('HSET', record, 'job_id', id, 'body_hash', ARGV[3], 'accepted', now)
redis.call('PEXPIRE', record, ARGV[7])
-- The line as a whole is kept by class and order of acceptance; order.lua decides who is next.
local number = redis.call('INCR', WAITING_SEQ)
local place = ARGV[6] * 1e14 + number
local cost = corrected(ARGV[11], ARGV[8])
redis.call('ZADD', KEYS[16], number, id)
redis.call('HSET', JOB .. id, 'job', ARGV[2], 'state', 'queued', 'accepted_ms', now,
  'line', ARGV[4], 'route', ARGV[5], 'place', string.format('%.0f', place),
  'class', ARGV[6], 'predicted', ARGV[8], 'kind', ARGV[11], 'cost', cost, 'charged', cost, 'day', today)
for i = 12, #ARGV, 2 do redis.call('HSET', JOB .. id, ARGV[i], ARGV[i + 1]) end
charge(ARGV[9], user_key(ARGV[10]), today, cost)
use(id, 'requests', 1)
need_image(id, 1)
give_until(id, 'start_within')
audit(id, 'accepted', '')
line_up(id)
return id
