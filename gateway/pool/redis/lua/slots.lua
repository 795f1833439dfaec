-- Returns cap, used, and the numbers of workers ready, starting and busy, and of sessions on hold.

local cap, held = 0, 0
local states = { ready = 0, starting = 0, busy = 0, done = 0 }
for _, host in ipairs(call('ZRANGE', P .. ':hosts', 0, -1)) do
  local h = call('HMGET', key('host', host), 'cap', 'draining')
  if h[2] ~= '1' then
    cap = cap + tonumber(h[1])
  end
  held = held + used(host)
  for _, said in ipairs(call('HVALS', key('workers', host))) do
    local state = cjson.decode(said)[3]
    states[state] = states[state] + 1
  end
end
return { cap, held, states.ready, states.starting, states.busy, call('ZCARD', P .. ':queue') }
