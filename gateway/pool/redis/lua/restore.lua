-- How a running call is entered that the registry does not have, or has elsewhere or older. After common.lua, for
-- `put_host` and `renew`.

-- Give up sessions without a worker, for running calls of a full host: first those whose stream has not started, the
-- newest first.
local function make_room(host, units)
  local cap = tonumber(call('HGET', key('host', host), 'cap'))
  if not cap or used(host) + units <= cap then -- a lost host has no cap
    return
  end
  local giving = {}
  for _, session in ipairs(call('HKEYS', key('slots', host))) do
    local claim = load(session)
    if not claim then -- a server that evicts has dropped it
      unassign(host, session, call('HGET', key('slots', host), session))
    elseif claim.fence == 0 or claim.worker == '' then
      giving[#giving + 1] = { session = session, rank = claim.fence == 0 and 0 or 1, arrival = claim.arrival }
    end
  end
  table.sort(giving, function(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    return a.arrival > b.arrival
  end)
  for _, one in ipairs(giving) do
    if used(host) + units <= cap then
      return
    end
    give_up(one.session, 'moved')
  end
end

-- Take the worker out of a claim that is about to be given up, so that giving it up does not free the worker.
local function detach_worker(session)
  call('HSET', key('session', session), 'worker', '')
end

-- Take the worker for this session off what is offered, and from another session that we thought it served. Returns
-- false, and changes nothing, if that one's claim is newer.
local function take_worker(session, fence, host, worker)
  local rival = call('HGET', key('in_use', host), worker)
  local other = rival and rival ~= session and load(rival)
  if other and other.fence > fence then
    return false
  end
  -- Before anything is given up, which hands out what comes free.
  call('HSET', key('in_use', host), worker, session)
  call('ZREM', key('ready', host), worker)
  local said = call('HGET', key('workers', host), worker)
  local own = said and cjson.decode(said)[4] or ''
  if call('HGET', key('started_for', host), own) == worker then
    call('HDEL', key('started_for', host), own)
  end
  if other then
    detach_worker(rival)
    give_up(rival, 'moved')
  elseif rival and rival ~= session then -- a server that evicts has dropped it
    unassign(host, rival, '')
  end
  return true
end

-- This attempt was confirmed, says a holder of it: no attempt up to it waits for its stream any more, whatever the
-- server has forgotten.
local function note_confirmed(claim, attempt)
  claim.confirmed = math.max(claim.confirmed, attempt)
  if claim.pending_attempt <= claim.confirmed then
    claim.pending_attempt = 0
  end
end

-- What the registry knew of the session before is outdated, even if it cannot be entered at its new place. Only an
-- attempt that waits for its stream stays good.
local function replace_old_claim(session, claim)
  local old = load(session)
  if not old then
    return
  end
  claim.pending_attempt, claim.pending_expires = old.pending_attempt, old.pending_expires
  note_confirmed(claim, old.confirmed)
  if old.host == claim.host and old.worker == claim.worker then
    detach_worker(session)
  end
  give_up(session, 'moved')
end

-- Enter a confirmed claim: it is a running call. attempt: the newest that is known to be confirmed. Returns whether it
-- was entered: not if a newer claim has its worker, or if it has none and there is no room.
local function restore(session, fence, host, worker, attempt, static)
  local claim = {
    host = host, worker = worker, static = static, fresh = 0, fence = fence, confirmed = attempt,
    expires = now + CONFIRMED, pending_attempt = 0, pending_expires = 0, arrival = next_arrival(),
  }
  if worker ~= '' and not take_worker(session, fence, host, worker) then
    return false
  end
  replace_old_claim(session, claim)
  make_room(host, 1)
  -- Without a worker it needs a free unit; with one, the call is there.
  if worker == '' and call('EXISTS', key('host', host)) == 1 and units_of(host).free == 0 then
    return false
  end
  assign(host, session, claim, AVOID_NONE)
  save(session, claim)
  local k = key('session', session)
  call('HSET', k, 'given', math.max(claim.confirmed, claim.pending_attempt, tonumber(call('HGET', k, 'given') or 0)))
  note_fence(fence)
  return true
end
