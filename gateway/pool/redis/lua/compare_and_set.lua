-- KEYS[1]; the value expected ('' for none), the new one, ttl ms
-- Compare and set. Returns nothing if it was set; else the value found.

local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return { found }
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {}
