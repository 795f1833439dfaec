-- session, attempt

local session, attempt = ARGV[FIRST_ARG], tonumber(ARGV[FIRST_ARG + 1])
local claim = load(session)
if not claim or attempt <= 0 or claim.pending_attempt ~= attempt or not is_alive(claim) then
  local spent = tonumber(call('HGET', key('session', session), 'confirmed') or 0)
  return { 'stale', (attempt > 0 and attempt <= spent) and 1 or 0 }
end
claim.fence = math.max(tonumber(call('HGET', PREFIX .. ':meta', 'fence') or 0) + 1, now_us)
note_fence(claim.fence)
claim.confirmed, claim.pending_attempt, claim.expires = attempt, 0, now + CONFIRMED
local reply = claim_of(session, claim, attempt, claim.fence, claim.expires)
claim.fresh = 0
save(session, claim)
return reply
