-- host, epoch

local host = ARGV[FIRST_ARG]
if tonumber(call('HGET', key('host', host), 'epoch')) == tonumber(ARGV[FIRST_ARG + 1]) then
  call('HSET', key('host', host), 'draining', 1)
  -- It starts no worker any more: those who wait for one go elsewhere.
  local moved = call('ZRANGE', key('waiting', host), 0, -1)
  call('DEL', key('waiting', host))
  for _, session in ipairs(moved) do
    give_up(session, 'moved')
  end
end
return 1
