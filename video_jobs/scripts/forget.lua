-- forget: a job that has ended -> the same, with its result deleted for good.
-- ARGV 1 job id  2 tenant
-- returns 1 (also the second time), 0 if there is no such job or it has not ended
local id = ARGV[1]
if get(id, 'tenant') ~= ARGV[2] then return 0 end
local state = get(id, 'state')
if state == 'queued' or state == 'running' then return 0 end
if redis.call('HSETNX', JOB .. id, 'deleted_ms', now) == 1 then audit(id, 'result deleted', '') end
return 1
