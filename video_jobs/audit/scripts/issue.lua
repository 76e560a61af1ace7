-- issue: the first time a caller gets the links of a job's result.
-- ARGV 1 job id  2 key id  3 entry
-- returns 1 (also every later time, which appends nothing)
if redis.call('EXISTS', JOB .. ARGV[1]) == 1 and redis.call('HSETNX', JOB .. ARGV[1], 'issued:' .. ARGV[2], now) == 1 then
  append(ARGV[3])
end
return 1
