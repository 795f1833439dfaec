-- host, epoch, with_sessions (1: give up its claims, too)
-- Returns 0 if a newer epoch is known.

local host = ARGV[FIRST_ARG]
local epoch = tonumber(call('HGET', key('host', host), 'epoch') or ARGV[FIRST_ARG + 1])
if epoch > tonumber(ARGV[FIRST_ARG + 1]) then
  return 0
end
-- Else it has expired already, and those on hold were told then.
if call('ZSCORE', PREFIX .. ':hosts', host) then
  forget_host(host)
end
if ARGV[FIRST_ARG + 2] == '1' then
  for _, session in ipairs(call('HKEYS', key('slots', host))) do
    give_up(session, 'moved')
  end
end
return 1
