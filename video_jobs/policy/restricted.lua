-- restricted: what holds for one end user, and whether a throttled one must wait. Changes only the rate.
-- KEYS 1 the restriction  2 its rate (the time at which it would be idle again, in microseconds)
-- returns nothing, or {restriction JSON, ms to wait}
local text = redis.call('GET', KEYS[1])
if not text then return {} end
local held = cjson.decode(text)
if held.measure ~= 'throttle' then return {text, 0} end
local clock = redis.call('TIME')
local now_us, minute_us = clock[1] * 1000000 + clock[2], 60000000
local idle_us = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now_us) + minute_us / held.per_minute
local late_us = idle_us - now_us - minute_us
if late_us > 0 then return {text, math.ceil(late_us / 1000)} end
redis.call('SET', KEYS[2], string.format('%.0f', idle_us), 'PX', math.ceil((idle_us - now_us) / 1000) + 1)
return {text, 0}
