-- plan: fix the end of the segment that is exported next, so that a second try writes the same objects.
-- ARGV 1 fence  2 last seq
-- returns the last seq that holds, 0 without the turn
if not has_turn(ARGV[1]) then return 0 end
if number('planned') <= number('exported') then redis.call('HSET', STATE, 'planned', ARGV[2]) end
return number('planned')
