-- KEYS[1]
-- Returns 1; the text that is there ('' for none); and the time in ms.

local clock = {{CLOCK}}
return { 1, redis.call('GET', KEYS[1]) or '', math.floor(clock[1] * 1000 + clock[2] / 1000) }
