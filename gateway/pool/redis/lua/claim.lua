-- session, queue (0 or 1), given, confirmed, avoided workers...
-- given, confirmed: attempts counted elsewhere, in another service that the session has left.

local session, queue = ARGV[OWN], ARGV[OWN + 1] == '1'
local given, confirmed = tonumber(ARGV[OWN + 2]), tonumber(ARGV[OWN + 3])

local function avoiding(workers)
  local set = {}
  for _, worker in ipairs(workers) do
    set[worker] = true
  end
  return { n = #workers, set = set }
end

local avoided = {}
for i = OWN + 4, #ARGV do
  avoided[#avoided + 1] = ARGV[i]
end
local avoid = avoiding(avoided)

-- How many more this host could take: it starts workers as needed, static ones are what they are.
local function capacity(host, h, free, who, not_these)
  if not_these.set[host] then
    return 0
  end
  if h[3] ~= '1' then
    return free
  end
  local ready = call('ZCARD', key('ready', host))
  for worker in pairs(not_these.set) do
    if call('ZSCORE', key('ready', host), worker) then
      ready = ready - 1
    end
  end
  local own = call('HGET', key('own', host), who)
  if own and not not_these.set[own] then
    ready = ready + 1
  end
  return math.min(free, ready)
end

local hosts = call('ZRANGE', P .. ':hosts', 0, -1)

local function could_serve(who, not_these)
  for _, host in ipairs(hosts) do
    local free, h = free_units(host)
    if free > 0 and capacity(host, h, free, who, not_these) > 0 then
      return true
    end
  end
  return false
end

-- Whether so many ahead in the queue leave something of `total`: whoever avoids all that is free holds up nobody.
-- Looks at no more of them than it must: everybody on hold asks this whenever something comes free.
local function leave_some(ahead, total)
  if total == 0 or total > ahead or call('HLEN', P .. ':avoiding') == 0 then
    return total > ahead
  end
  local wanted = 0
  for _, other in ipairs(call('ZRANGE', P .. ':queue', 0, ahead - 1)) do
    local list = call('HGET', P .. ':avoiding', other)
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
local claim, first = load(session), false
local k = key('session', session)
if given > 0 then
  local f = call('HMGET', k, 'count', 'attempt')
  call('HSET', k, 'count', math.max(tonumber(f[1] or 0), given), 'attempt', math.max(tonumber(f[2] or 0), confirmed))
  if claim then
    claim.attempt = math.max(claim.attempt, confirmed)
  else
    call('PEXPIRE', k, ENDED)
  end
end

-- Who had a slot and lost its worker comes before those who never talked to anybody: its unit stays its own.
-- A worker with a stream may outlive a host that is avoided.
local served = claim and claim.fence > 0 and claim.worker ~= ''
if claim and (avoid.set[claim.worker] or (avoid.set[claim.host] and not served) or not alive(claim)) then
  give_up(session, avoid.set[claim.worker] and 'avoided' or 'moved')
  claim, first = nil, true
end

if not claim then
  local total, best, best_ready, best_share, best_static = 0, nil, false, 0, '0'
  for _, host in ipairs(hosts) do
    local free, h = free_units(host)
    local units = free > 0 and capacity(host, h, free, session, avoid) or 0
    if units > 0 then
      total = total + units
      local ready, share = best_worker(host, session, avoid) ~= nil, free / tonumber(h[1])
      if not best or (ready and not best_ready) or (ready == best_ready and share > best_share) then
        best, best_ready, best_share, best_static = host, ready, share, h[3]
      end
    end
  end
  local ahead = first and 0 or call('ZRANK', P .. ':queue', session) or call('ZCARD', P .. ':queue')
  if not leave_some(ahead, total) then
    if not queue then
      return { 'full', #hosts }
    end
    if not call('ZSCORE', P .. ':queue', session) then
      call('ZADD', P .. ':queue', first and -ticket() or ticket(), session)
    end
    call('ZADD', P .. ':waits', now + QUEUED, session)
    if avoid.n > 0 then
      call('HSET', P .. ':avoiding', session, cjson.encode(avoided))
    else
      call('HDEL', P .. ':avoiding', session)
    end
    return { 'queued', ahead + 1 }
  end
  leave_queue(session)
  claim = {
    host = best, worker = '', static = best_static, fresh = 1, fence = 0, expires = 0, pending = 0, pexpires = 0,
    since = ticket(), attempt = tonumber(call('HGET', k, 'attempt') or 0),
  }
  assign(best, session, claim, avoid)
end

if claim.pending <= given then
  claim.pending = tonumber(call('HGET', k, 'count') or 0) + 1
  claim.pexpires = now + RESERVED
  call('HSET', k, 'count', claim.pending)
  save(session, claim)
end
return claim_reply(session, claim, claim.pending, 0, claim.pexpires)
