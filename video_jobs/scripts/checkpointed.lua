-- checkpointed: running -> running: a checkpoint of this attempt lies in the store.
-- Lost leases count anew only for a job that got further than ever: one that starts again and again must end.
-- ARGV 1 job id  2 token  3 object key  4 step
-- returns held | cancel | lost; what the record names already is held, however late it is told again
local held = hold(ARGV[1], ARGV[2])
if held ~= 'lost' then
  local job = JOB .. ARGV[1]
  if tonumber(ARGV[4]) > tonumber(redis.call('HGET', job, 'furthest_step') or 0) then
    redis.call('HSET', job, 'furthest_step', ARGV[4], 'lost_leases', 0)
  end
  redis.call('HSET', job, 'checkpoint', ARGV[3], 'checkpoint_step', ARGV[4])
elseif get(ARGV[1], 'checkpoint') == ARGV[3] then
  return 'held'
end
return held
