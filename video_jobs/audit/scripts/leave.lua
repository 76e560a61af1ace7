-- leave: give the turn back, so that the next sealer need not wait for the lease to end.
-- ARGV 1 holder
-- returns 1 (also the second time)
if state('holder') == ARGV[1] then redis.call('HSET', STATE, 'holder', '', 'until', 0) end
return 1
