-- release: give a reservation back, if it is still ours and nothing was accepted under it.
-- KEYS 15 idempotency record    ARGV 1 job id  2 tenant
-- returns 1 (also the second time)
local known = redis.call('HMGET', KEYS[15], 'job_id', 'accepted')
if known[1] == ARGV[1] and not known[2] then redis.call('DEL', KEYS[15]) end
let_go(ARGV[1])
return 1
