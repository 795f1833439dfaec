-- session, fence

local session, fence = ARGV[FIRST_ARG], tonumber(ARGV[FIRST_ARG + 1])
local claim = load(session)
if claim and claim.fence == fence then
  give_up(session, 'released')
-- Already lost, or moved: note that it was given up on purpose, so that what its host reports next is not believed.
elseif fence > 0 and tonumber(call('HGET', key('session', session), 'last') or 0) == fence then
  call('HSET', key('session', session), 'how', 'released')
end
return 1
