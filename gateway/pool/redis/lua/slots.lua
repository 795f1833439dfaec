-- Returns cap, used, and the numbers of workers ready, starting and busy, of sessions on hold, and of free units.

local cap, claims, free = 0, 0, 0
local states = { ready = 0, starting = 0, busy = 0, done = 0 }
for _, host in ipairs(call('ZRANGE', PREFIX .. ':hosts', 0, -1)) do
  local h = call('HMGET', key('host', host), 'cap', 'draining', 'static')
  if h[1] and h[2] ~= '1' then -- no cap: a server that evicts has dropped the host
    local units = math.max(0, tonumber(h[1]) - used(host))
    cap = cap + tonumber(h[1])
    free = free + (h[3] == '1' and math.min(units, call('ZCARD', key('ready', host))) or units)
  end
  claims = claims + used(host)
  for _, said in ipairs(call('HVALS', key('workers', host))) do
    local state = cjson.decode(said)[3]
    states[state] = (states[state] or 0) + 1 -- another version may have more of them
  end
end
return { cap, claims, states.ready, states.starting, states.busy, call('ZCARD', PREFIX .. ':queue'), free }
