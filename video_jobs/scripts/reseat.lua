-- reseat: after a change of limits a tenant may join the order again, or leave it.
-- ARGV 1 tenant
-- returns 1
for _, lane in ipairs(redis.call('SMEMBERS', named('lanes', ARGV[1]))) do seat(lane, ARGV[1]) end
return 1
