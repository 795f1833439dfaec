-- host, epoch, workers...
-- Returns 0 if this host is not known by this epoch, else 1 and the sessions that wait for a worker.

local host = ARGV[OWN]
if tonumber(call('HGET', key('host', host), 'epoch')) ~= tonumber(ARGV[OWN + 1]) then
  return { 0 }
end
call('ZADD', P .. ':hosts', now + HOST, host)
set_workers(host, OWN + 2, #ARGV - OWN - 1, true)
settle(host)
if call('ZCARD', P .. ':queue') > 0 then
  hint()
end
local reply = { 1 }
for _, session in ipairs(call('ZRANGE', key('waiting', host), 0, -1)) do
  reply[#reply + 1] = session
end
return reply
