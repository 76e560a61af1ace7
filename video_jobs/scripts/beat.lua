-- beat: running -> running: the lease is long again.
-- ARGV 1 job id  2 token  3 lease ms
-- returns held | cancel | lost
local held = hold(ARGV[1], ARGV[2])
if held ~= 'lost' then redis.call('ZADD', LEASES, now + ARGV[3], ARGV[1]) end
return held
