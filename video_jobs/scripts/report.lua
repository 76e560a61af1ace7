-- report: running -> running: stage, progress or the rendered prompt, whatever pairs are given.
-- ARGV 1 job id  2 token  3… pairs
-- returns held | cancel | lost
local held = hold(ARGV[1], ARGV[2])
if held ~= 'lost' then redis.call('HSET', JOB .. ARGV[1], unpack(ARGV, 3)) end
return held
