-- expire: a job that ended long ago -> nothing. The audit stays, and so does what its request id made: that record has a
-- time of its own, which a short retention must not shorten.
-- KEYS 16 the tenant's jobs    ARGV 1 job id  2 ended before
-- returns 1 (also the second time), 0 if it has not ended by then
local id, ended = ARGV[1], redis.call('ZSCORE', ENDED, ARGV[1])
if not ended then return redis.call('EXISTS', JOB .. id) == 0 and 1 or 0 end
if tonumber(ended) > tonumber(ARGV[2]) then return 0 end
audit(id, 'expired', '')
redis.call('DEL', JOB .. id, ATTEMPTS .. id)
redis.call('ZREM', ENDED, id)
redis.call('ZREM', DEAD, id)
redis.call('ZREM', KEYS[16], id)
return 1
