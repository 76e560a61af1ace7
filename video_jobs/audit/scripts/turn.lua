-- turn: be the sealer, or stay it. Only the newest fence may seal, and only onto the chain as it stands.
-- ARGV 1 holder  2 lease ms  3 cap of the backlog  4 the chain's id, should it begin now
-- returns {fence, chain id, sealed, head, exported, planned, signed ms, Redis's ms}, or nothing while another has the turn
local holder = state('holder')
if holder ~= ARGV[1] and number('until') > now then return {} end
if holder ~= ARGV[1] then redis.call('HINCRBY', STATE, 'fence', 1) end
redis.call('HSET', STATE, 'holder', ARGV[1], 'until', now + ARGV[2], 'cap', ARGV[3])
redis.call('HSETNX', STATE, 'chain_id', ARGV[4])
redis.call('HSETNX', STATE, 'head', string.rep('0', 64))
roll()
return {state('fence'), state('chain_id'), number('sealed'), state('head'), number('exported'), number('planned'),
  number('signed_ms'), now}
