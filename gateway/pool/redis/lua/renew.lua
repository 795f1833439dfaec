-- (session, fence, host, worker, attempt, static)...; host '' if the caller does not remember the place
-- Returns, for each, 1 if it is renewed or in grace and 0 if it is lost.

local in_grace = SINCE_OUTAGE < CONFIRMED

-- After an outage, a claim that is gone comes back, unless it was given up or a newer one has been there.
local function comes_back(session, fence, i)
  local f = call('HMGET', key('session', session), 'last', 'how')
  local last = tonumber(f[1] or 0)
  if last > fence or was_released(last, f[2], fence) then
    return 0
  end
  local host, worker, attempt, static = ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4]), ARGV[i + 5]
  if host == '' then
    return 1
  end
  return restore(session, fence, host, worker, attempt, static) and 1 or 0
end

-- A server that lost its last seconds, say by a failover, may still have the session where it was before. One whose
-- place its node does not remember, or whose worker was not known yet, stays where it is.
local function is_elsewhere(claim, i)
  local host, worker = ARGV[i + 2], ARGV[i + 3]
  return host ~= '' and (host ~= claim.host or (worker ~= '' and worker ~= claim.worker))
end

-- The newer fence is believed in grace. Its attempt is confirmed, whatever the server has forgotten of it.
local function catch_up(session, claim, fence, i)
  if is_elsewhere(claim, i) then
    return restore(session, fence, ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4]), ARGV[i + 5]) and 1 or 0
  end
  note_confirmed(claim, tonumber(ARGV[i + 4]))
  claim.fence, claim.expires = fence, now + CONFIRMED
  note_fence(fence)
  save(session, claim)
  return 1
end

local results = {}
for i = FIRST_ARG, #ARGV, 6 do
  local session, fence = ARGV[i], tonumber(ARGV[i + 1])
  local claim = load(session)
  local kept
  if not claim then
    kept = in_grace and comes_back(session, fence, i) or 0
  elseif claim.fence == fence then
    claim.expires, kept = now + CONFIRMED, 1
    note_fence(fence)
    save(session, claim)
  elseif in_grace and claim.fence > 0 and claim.fence < fence then
    kept = catch_up(session, claim, fence, i)
  else -- in grace, an unconfirmed claim of the session is not news that another node has it
    kept = (in_grace and claim.fence == 0) and 1 or 0
  end
  results[#results + 1] = kept
end
return results
