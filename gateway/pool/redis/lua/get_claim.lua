-- session, fence: -1 for any

local session, fence = ARGV[FIRST_ARG], tonumber(ARGV[FIRST_ARG + 1])
local claim = load(session)
if claim and fence == -1 and claim.fence > 0 then
  fence = claim.fence
end
if not claim or claim.fence ~= fence or not is_alive(claim) then
  return { 'stale', (claim and fence >= 0 and claim.fence > fence) and 1 or 0 }
end
return claim_of(session, claim, claim.confirmed, fence, claim.expires)
