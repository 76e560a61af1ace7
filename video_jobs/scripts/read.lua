-- read: one read of a tenant's, within the reads' own rate. Changes nothing but that.
-- ARGV 1 tenant
-- returns nothing, or {limited, …} as limits.lua says
return (rate_limit('reads', 'reads_per_minute', ARGV[1])) or {}
