-- note: append one entry; one of a kind that has a limit a minute is counted once the limit is reached.
-- ARGV 1 nonce  2 entry  3 whose limit, or empty  4 limit  5 counted as
-- returns 1 appended, 0 counted
if not is_new(ARGV[1]) then return 1 end
roll()
if ARGV[3] ~= '' and (redis.call('HINCRBY', COUNTS, 'one:' .. ARGV[3], 1) > tonumber(ARGV[4]) or is_full()) then
  redis.call('HINCRBY', COUNTS, ARGV[5], 1)
  return 0
end
append(ARGV[2])
return 1
