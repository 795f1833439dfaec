-- session, fence

local session, fence = ARGV[OWN], tonumber(ARGV[OWN + 1])
local claim = load(session)
if not claim or claim.fence ~= fence or not alive(claim) then
  return { 'stale', (claim and claim.fence > fence) and 1 or 0 }
end
return claim_reply(session, claim, claim.attempt, fence, claim.expires)
