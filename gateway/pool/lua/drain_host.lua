-- host, epoch

local host = ARGV[OWN]
if tonumber(call('HGET', key('host', host), 'epoch')) == tonumber(ARGV[OWN + 1]) then
  call('HSET', key('host', host), 'draining', 1)
end
return 1
