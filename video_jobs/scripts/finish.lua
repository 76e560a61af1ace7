-- finish: running, or queued again, -> succeeded | failed | cancelled, only for the newest token.
-- ARGV 1 job id  2 token  3 state  4 outcome JSON  5 error code  6 error message  7 device ms, or empty
-- returns 1 published (also when this very outcome was published before), 0 not yours any more
local id = ARGV[1]
if get(id, 'token') ~= ARGV[2] then return 0 end
local state = get(id, 'state')
if state ~= 'running' and state ~= 'queued' then return get(id, 'outcome') == ARGV[4] and 1 or 0 end
redis.call('HSET', JOB .. id, 'outcome', ARGV[4])
if ARGV[7] ~= '' then redis.call('HSET', JOB .. id, 'gpu_ms', ARGV[7]) end
if ARGV[3] == 'succeeded' then redis.call('HSET', JOB .. id, 'progress', 1) end
close_attempt(id, ARGV[3])
end_job(id, ARGV[3], ARGV[5], ARGV[6])
return 1
