-- exported: the segment lies in the store: its lines, content and checkpoints leave Redis.
-- ARGV 1 fence  2 last seq  3 a signed checkpoint of that place, with which the next segment begins
-- returns 1 (also the second time), 0 without the turn
local before, last = number('exported'), tonumber(ARGV[2])
if before >= last then return 1 end
if not has_turn(ARGV[1]) then return 0 end
redis.call('LTRIM', SEALED, last - before, -1)
for seq = before + 1, last do
  local name = string.format('%.0f', seq)
  redis.call('HDEL', CONTENT, name)
  redis.call('HDEL', CHECKPOINTS, name)
end
redis.call('HSET', STATE, 'exported', string.format('%.0f', last), 'boundary', ARGV[3])
return 1
