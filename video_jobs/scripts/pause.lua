-- pause: a route gives no job out, or gives jobs out again. What runs, runs on; what comes, waits.
-- ARGV 1 route, or * for all  2 the operator  3 1 to pause, 0 to resume
-- returns 1 if that changed anything
local changed
if ARGV[3] == '1' then
  changed = redis.call('HSETNX', PAUSED, ARGV[1], cjson.encode({by = ARGV[2], since_ms = now}))
else
  changed = redis.call('HDEL', PAUSED, ARGV[1])
end
if changed == 1 then audit('', ARGV[3] == '1' and 'paused' or 'resumed', ARGV[1] .. ' by ' .. ARGV[2]) end
return changed
