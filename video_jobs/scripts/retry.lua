-- retry: failed -> queued, as if it had never been tried; what earlier attempts left is refused.
-- ARGV 1 job id  2 the operator  3 this call, by a name that no other call has
-- returns queued | not failed | unknown; a call that arrives twice answers as the first time
local id, state = ARGV[1], get(ARGV[1], 'state')
if not state then return 'unknown' end
if get(id, 'retried_by') == ARGV[3] then return 'queued' end
if state ~= 'failed' or get(id, 'deleted_ms') then return 'not failed' end
redis.call('HDEL', JOB .. id, 'outcome', 'error_code', 'error_message', 'finished_ms', 'started_ms', 'token', 'gpu_ms',
  'failed_attempts', 'engine_deaths', 'lost_leases', 'handed_on_as', 'cancel', 'stage', 'progress',
  'checkpoint', 'checkpoint_step', 'furthest_step')
redis.call('ZREM', DEAD, id)
redis.call('ZREM', ENDED, id)
local cost = number(JOB .. id, 'cost')
redis.call('HSET', JOB .. id, 'state', 'queued', 'charged', cost, 'day', today, 'retried_by', ARGV[3])
charge(get(id, 'tenant'), user_key(get(id, 'user_id')), today, cost)
need_image(id, 1)
give_until(id, 'start_within')
audit(id, 'retried', ARGV[2])
line_up(id)
return 'queued'
