-- host, epoch, seq, workers...
-- Returns 0 if this host is not known by this epoch, else 1 and the sessions that wait for a worker.

local host = ARGV[FIRST_ARG]
if tonumber(call('HGET', key('host', host), 'epoch')) ~= tonumber(ARGV[FIRST_ARG + 1]) then
  return { 0 }
end
call('ZADD', PREFIX .. ':hosts', now + HOST, host)
if not is_old(host, tonumber(ARGV[FIRST_ARG + 2])) then
  set_workers(host, FIRST_ARG + 3, #ARGV - FIRST_ARG - 2, true)
  give_free_workers(host)
  if offers(host) and call('ZCARD', PREFIX .. ':queue') > 0 then -- else all on hold would claim again for nothing
    wake_waiting()
  end
end
local reply = { 1 }
for _, session in ipairs(call('ZRANGE', key('waiting', host), 0, -1)) do
  reply[#reply + 1] = session
end
return reply
