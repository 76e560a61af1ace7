-- seal: raw entries -> sealed lines and content, onto exactly the chain that the sealer started from.
-- ARGV 1 fence  2 first seq  3 the chain's value after them  4 a signed checkpoint, or empty  5… pairs of line and content
-- returns 1 (also the second time), 0 if another sealer was faster
if not has_turn(ARGV[1]) then return 0 end
local first, sealed = tonumber(ARGV[2]), number('sealed')
local count = (#ARGV - 4) / 2
local last = first + count - 1
if not (sealed == last and state('head') == ARGV[3]) then
  if sealed ~= first - 1 then return 0 end
  for i = 0, count - 1 do
    redis.call('RPUSH', SEALED, ARGV[5 + 2 * i])
    if ARGV[6 + 2 * i] ~= '' then redis.call('HSET', CONTENT, string.format('%.0f', first + i), ARGV[6 + 2 * i]) end
  end
  redis.call('LTRIM', AUDIT, count, -1)
  redis.call('HSET', STATE, 'sealed', string.format('%.0f', last), 'head', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('HSET', CHECKPOINTS, string.format('%.0f', last), ARGV[4])
  redis.call('HSET', STATE, 'signed_ms', now)
end
return 1
