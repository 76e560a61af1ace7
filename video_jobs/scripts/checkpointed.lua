-- checkpointed: running -> running: a checkpoint of this attempt lies in the store; lost leases count anew.
-- ARGV 1 job id  2 token  3 object key  4 step
-- returns held | cancel | lost
local held = hold(ARGV[1], ARGV[2])
if held ~= 'lost' then
  redis.call('HSET', JOB .. ARGV[1], 'checkpoint', ARGV[3], 'checkpoint_step', ARGV[4], 'lost_leases', 0)
end
return held
