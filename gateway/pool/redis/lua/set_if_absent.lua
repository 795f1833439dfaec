-- KEYS[1]; ttl ms, value
-- Returns nothing if the key was not set; else its value and the milliseconds since.

local clock = {{CLOCK}}
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'value', 'at')
if known[1] then
  return { known[1], now - tonumber(known[2]) }
end
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'at', now)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {}
