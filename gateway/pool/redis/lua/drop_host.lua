-- host, epoch, evict (1: its sessions too)
-- Returns 0 if a newer epoch is known.

local host = ARGV[OWN]
local epoch = tonumber(call('HGET', key('host', host), 'epoch') or ARGV[OWN + 1])
if epoch > tonumber(ARGV[OWN + 1]) then
  return 0
end
if call('ZSCORE', P .. ':hosts', host) then
  forget_host(host)
end
if ARGV[OWN + 2] == '1' then
  for _, session in ipairs(call('HKEYS', key('held', host))) do
    give_up(session, 'moved')
  end
end
return 1
