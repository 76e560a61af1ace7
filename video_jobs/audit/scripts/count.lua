-- count: add to the counters of this minute.
-- ARGV 1 nonce  2… pairs of counter and amount
-- returns 1 (also the second time)
if not is_new(ARGV[1]) then return 1 end
roll()
for i = 2, #ARGV, 2 do redis.call('HINCRBY', COUNTS, ARGV[i], ARGV[i + 1]) end
return 1
