-- session, attempt

local session, attempt = ARGV[OWN], tonumber(ARGV[OWN + 1])
local claim = load(session)
if not claim or attempt <= 0 or claim.pending ~= attempt or not alive(claim) then
  local spent = tonumber(call('HGET', key('session', session), 'attempt') or 0)
  return { 'stale', (attempt > 0 and attempt <= spent) and 1 or 0 }
end
claim.fence = math.max(tonumber(call('HGET', P .. ':meta', 'fence') or 0) + 1, now_us)
note_fence(claim.fence)
claim.attempt, claim.pending, claim.expires = attempt, 0, now + CONFIRMED
local reply = claim_reply(session, claim, attempt, claim.fence, claim.expires)
claim.fresh = 0
save(session, claim)
return reply
