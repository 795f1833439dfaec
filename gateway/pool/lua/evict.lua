-- session
-- The session goes to another service. Returns how many attempts were counted here.

local session = ARGV[OWN]
if load(session) then
  give_up(session, 'moved')
end
if leave_queue(session) == 1 then
  hint()
end
return tonumber(call('HGET', key('session', session), 'count') or 0)
