-- KEYS[1]; the text expected ('' for none), the new one ('' for none), ttl ms
-- Returns 1 if that was done, else 0 as another text was found; the text that was there; and the time in ms.

local clock = {{CLOCK}}
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return { 0, found, now }
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return { 1, found, now }
