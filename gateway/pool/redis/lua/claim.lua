-- session, queue (0 or 1), given, confirmed, avoided workers...
-- given, confirmed: attempts counted elsewhere, in another service that the session has left.

local session, queue = ARGV[FIRST_ARG], ARGV[FIRST_ARG + 1] == '1'
local given, confirmed = tonumber(ARGV[FIRST_ARG + 2]), tonumber(ARGV[FIRST_ARG + 3])

local function avoiding(workers)
  local set = {}
  for _, worker in ipairs(workers) do
    set[worker] = true
  end
  return { n = #workers, set = set }
end

local avoided = {}
for i = FIRST_ARG + 4, #ARGV do
  avoided[#avoided + 1] = ARGV[i]
end
local avoid = avoiding(avoided)

-- How many more this host could take: it starts workers as needed, static ones are what they are.
local function capacity(host, units, who, not_these)
  if not_these.set[host] then
    return 0
  end
  if not units.static or units.free == 0 then
    return units.free
  end
  local ready = call('ZCARD', key('ready', host))
  for worker in pairs(not_these.set) do
    if call('ZSCORE', key('ready', host), worker) then
      ready = ready - 1
    end
  end
  local own = call('HGET', key('started_for', host), who)
  if own and not not_these.set[own] then
    ready = ready + 1
  end
  return math.min(units.free, ready)
end

local hosts = call('ZRANGE', PREFIX .. ':hosts', 0, -1)

local function could_serve(who, not_these)
  for _, host in ipairs(hosts) do
    if capacity(host, units_of(host), who, not_these) > 0 then
      return true
    end
  end
  return false
end

-- Whether so many ahead in the queue leave something of `total`: one that avoids all that is free does not count,
-- as it could not be served now. Looks at no more of them than it must: all on hold ask this whenever something comes
-- free.
local function leave_some(ahead, total)
  if total == 0 or total > ahead or call('HLEN', PREFIX .. ':avoiding') == 0 then
    return total > ahead
  end
  local wanted = 0
  for _, other in ipairs(call('ZRANGE', PREFIX .. ':queue', 0, ahead - 1)) do
    local list = call('HGET', PREFIX .. ':avoiding', other)
    if not list or could_serve(other, avoiding(cjson.decode(list))) then
      wanted = wanted + 1
      if wanted == total then
        return false
      end
    end
  end
  return true
end

-- Attempts count on over claims that were lost, and over services: a token of an older one must never be taken for a
-- newer.
local claim, lost_worker = load(session), false
local k = key('session', session)
if given > 0 then
  local f = call('HMGET', k, 'given', 'confirmed')
  call('HSET', k, 'given', math.max(tonumber(f[1] or 0), given), 'confirmed', math.max(tonumber(f[2] or 0), confirmed))
  if claim then
    claim.confirmed = math.max(claim.confirmed, confirmed)
  else
    call('PEXPIRE', k, ENDED)
  end
end

-- A session that lost its worker goes before those on hold: the slot that it gives up stays its own.
-- A worker with a stream may outlive a host that is avoided.
local served = claim and claim.fence > 0 and claim.worker ~= ''
if claim and (avoid.set[claim.worker] or (avoid.set[claim.host] and not served) or not is_alive(claim)) then
  give_up(session, avoid.set[claim.worker] and 'avoided' or 'moved')
  claim, lost_worker = nil, true
end

if not claim then
  local total, best, best_ready, best_share, best_static = 0, nil, false, 0, 0
  for _, host in ipairs(hosts) do
    local units = units_of(host)
    local able = capacity(host, units, session, avoid)
    if able > 0 then
      total = total + able
      local ready, share = best_worker(host, session, avoid) ~= nil, units.free / units.cap
      if not best or (ready and not best_ready) or (ready == best_ready and share > best_share) then
        best, best_ready, best_share, best_static = host, ready, share, units.static and 1 or 0
      end
    end
  end
  local ahead = lost_worker and 0 or call('ZRANK', PREFIX .. ':queue', session) or call('ZCARD', PREFIX .. ':queue')
  if not leave_some(ahead, total) then
    if not queue then
      return { 'full', #hosts }
    end
    if not call('ZSCORE', PREFIX .. ':queue', session) then
      call('ZADD', PREFIX .. ':queue', lost_worker and -next_arrival() or next_arrival(), session)
    end
    call('ZADD', PREFIX .. ':waits', now + QUEUED, session)
    if avoid.n > 0 then
      call('HSET', PREFIX .. ':avoiding', session, cjson.encode(avoided))
    else
      call('HDEL', PREFIX .. ':avoiding', session)
    end
    return { 'queued', ahead + 1, tonumber(call('HGET', PREFIX .. ':meta', 'freed') or 0) }
  end
  leave_queue(session)
  claim = {
    host = best, worker = '', static = best_static, fresh = 1, fence = 0, expires = 0, pending_attempt = 0,
    pending_expires = 0, arrival = next_arrival(), confirmed = tonumber(call('HGET', k, 'confirmed') or 0),
  }
  assign(best, session, claim, avoid)
end

-- Give a new attempt number if none is pending, or if the pending one is not above the count of the service that the
-- session left.
if claim.pending_attempt <= given then
  claim.pending_attempt = tonumber(call('HGET', k, 'given') or 0) + 1
  claim.pending_expires = now + RESERVED
  call('HSET', k, 'given', claim.pending_attempt)
  save(session, claim)
end
return claim_of(session, claim, claim.pending_attempt, 0, claim.pending_expires)
