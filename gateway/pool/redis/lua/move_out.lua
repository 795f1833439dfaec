-- session, avoided workers...
-- The session goes to another service. Returns the attempts that were counted here: given, confirmed.

local session = ARGV[FIRST_ARG]
local claim = load(session)
if claim then
  local how = 'moved'
  for i = FIRST_ARG + 1, #ARGV do
    if ARGV[i] == claim.worker then
      how = 'avoided'
    end
  end
  give_up(session, how)
end
if leave_queue(session) == 1 then
  wake_waiting()
end
local f = call('HMGET', key('session', session), 'given', 'confirmed')
return { tonumber(f[1] or 0), tonumber(f[2] or 0) }
