-- cancel: queued -> cancelled at once; running -> flagged, and its worker is told.
-- ARGV 1 job id  2 tenant, or empty for an operator  3 the operator
-- returns cancelled | asked | final | unknown; asking again answers the same
local id = ARGV[1]
if ARGV[2] ~= '' and get(id, 'tenant') ~= ARGV[2] then return 'unknown' end
local state = get(id, 'state')
if not state then return 'unknown' end
if get(id, 'cancelled_in_line') then return 'cancelled' end
if state ~= 'queued' and state ~= 'running' then return 'final' end
if redis.call('HSETNX', JOB .. id, 'cancel', now) == 1 then audit(id, 'cancel asked', ARGV[3]) end
if state == 'queued' then
  redis.call('HSET', JOB .. id, 'cancelled_in_line', 1)
  end_job(id, 'cancelled', 'cancelled', 'The job was cancelled by its owner.')
  return 'cancelled'
end
redis.call('PUBLISH', CANCELS, id)
return 'asked'
