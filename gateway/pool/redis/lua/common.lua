-- What every script stands on. One script call is one atomic step on the state of one service.
--
-- KEYS[1] is the prefix of the service's keys and carries its hash tag: all keys below it live in one cluster slot.
--
--   hosts             zset  host -> end of its lease, ms
--   host:<host>       hash  epoch cap protocol key static draining, seq (of the newest news of its workers)
--   workers:<host>    hash  worker -> JSON [id, url, state, session], as the host last said
--   ready:<host>      zset  workers ready for anybody and promised to nobody
--   own:<host>        hash  session -> worker that was started for it, ready and not yet given
--   held:<host>       hash  session -> worker ('' while it waits for one); its length is `used`
--   taken:<host>      hash  worker -> session: the same, seen from the other side
--   waiting:<host>    zset  sessions that hold a unit and wait for a worker, oldest first
--   spent:<host>      hash  static worker that has served -> when a beat may bring it back, ms
--   session:<session> hash  the claim: host worker static since fresh, fence expires, pending pexpires; and what
--                           outlives it: count and attempt (given, confirmed), last (fence), how (that ended)
--   due               zset  session -> when its claim ends, ms
--   queue, waits      zsets session -> ticket; session -> when its place ends, ms
--   avoiding          hash  session in the queue -> JSON list of the workers it avoids
--   meta              hash  fence ticket freed
--
-- Lua's numbers are doubles: microseconds since 1970 stay exact until 2255. They must never be concatenated
-- (`..` keeps 14 digits); as arguments of redis.call they keep 17.

local call = redis.call
local P = KEYS[1]
local clock = CLOCK
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- How long this node has had the registry back after an outage. Nothing is taken for expired for one lease of its
-- kind: nobody could renew it.
local BACK = tonumber(ARGV[1])
local HOST, RESERVED, CONFIRMED = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local QUEUED, ENDED, STATIC = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local OWN = 8 -- the script's own arguments start here

local function key(kind, id)
  return P .. ':' .. kind .. ':' .. id
end

local function hint()
  call('HINCRBY', P .. ':meta', 'freed', 1)
end

local function ticket()
  return call('HINCRBY', P .. ':meta', 'ticket', 1)
end

-- Fences only grow, also over a registry that forgot them all.
local function note_fence(fence)
  if fence > tonumber(call('HGET', P .. ':meta', 'fence') or 0) then
    call('HSET', P .. ':meta', 'fence', fence)
  end
end

-- The claim of a session, or nil.
local function load(session)
  local f = call('HMGET', key('session', session), 'host', 'worker', 'static', 'fresh', 'fence', 'attempt', 'expires',
    'pending', 'pexpires', 'since')
  if not f[1] then
    return nil
  end
  local claim = {
    host = f[1], worker = f[2], static = f[3], fresh = f[4], fence = tonumber(f[5]), attempt = tonumber(f[6] or 0),
    expires = tonumber(f[7]), pending = tonumber(f[8]), pexpires = tonumber(f[9]), since = tonumber(f[10]),
  }
  if claim.pending > 0 and claim.pexpires <= now and BACK >= CONFIRMED then
    claim.pending = 0
  end
  return claim
end

local function save(session, claim)
  local k = key('session', session)
  call('HSET', k, 'host', claim.host, 'worker', claim.worker, 'static', claim.static, 'fresh', claim.fresh,
    'fence', claim.fence, 'attempt', claim.attempt, 'expires', claim.expires, 'pending', claim.pending,
    'pexpires', claim.pexpires, 'since', claim.since)
  call('PERSIST', k)
  local ends = math.max(claim.fence > 0 and claim.expires or 0, claim.pending > 0 and claim.pexpires or 0)
  call('ZADD', P .. ':due', ends, session)
end

-- Offer a worker, if it is one to be had.
local function offer(host, worker, order)
  local said = call('HGET', key('workers', host), worker)
  if not said then
    return
  end
  local w = cjson.decode(said)
  if w[3] ~= 'ready' or call('HEXISTS', key('taken', host), worker) == 1
    or call('HEXISTS', key('spent', host), worker) == 1 then
    return
  end
  if w[4] == '' then
    call('ZADD', key('ready', host), order, worker)
  else
    call('HSETNX', key('own', host), w[4], worker)
  end
end

-- The worker that this session would get, without taking it: one started for it, or else one started for nobody.
-- avoid: { n = how many, set = { [worker] = true } }.
local function best_worker(host, session, avoid)
  local own = call('HGET', key('own', host), session)
  if own and not avoid.set[own] then
    return own
  end
  for _, worker in ipairs(call('ZRANGE', key('ready', host), 0, avoid.n)) do
    if not avoid.set[worker] then
      return worker
    end
  end
  return nil
end

local NOTHING = { n = 0, set = {} }

-- Enter the claim with its unit, and with a worker if there is one.
local function assign(host, session, claim, avoid)
  if claim.worker == '' then
    local worker = best_worker(host, session, avoid)
    if worker then
      claim.worker, claim.fresh = worker, 1
      call('ZREM', key('ready', host), worker)
      if call('HGET', key('own', host), session) == worker then
        call('HDEL', key('own', host), session)
      end
    end
  end
  call('HSET', key('held', host), session, claim.worker)
  if claim.worker == '' then
    call('ZADD', key('waiting', host), claim.since, session)
  else
    call('ZREM', key('waiting', host), session)
    call('HSET', key('taken', host), claim.worker, session)
  end
end

-- Workers may have come free on this host: those who wait for one get it, oldest first.
local function settle(host)
  for _, session in ipairs(call('ZRANGE', key('waiting', host), 0, -1)) do
    if call('ZCARD', key('ready', host)) == 0 and call('HLEN', key('own', host)) == 0 then
      break
    end
    local claim = load(session)
    if claim then
      assign(host, session, claim, NOTHING)
      save(session, claim)
    end
  end
end

-- Whether this fence was given up for good. What a host still says of it is of a bot that outstays its call.
local function is_over(last, how, fence)
  return last == fence and (how == 'released' or how == 'avoided')
end

-- End a claim. how: 'released' by its holder; 'avoided' because its worker failed; 'moved' because it had to go from
-- where it was; 'lost' for want of renewal.
local function give_up(session, how)
  local k = key('session', session)
  local f = call('HMGET', k, 'host', 'worker', 'static', 'fence')
  local host, worker, fence = f[1], f[2], tonumber(f[4])
  if not host then -- a server that evicts has dropped it; one claim that is off must not block all others
    call('ZREM', P .. ':due', session)
    return
  end
  call('HDEL', k, 'host', 'worker', 'static', 'fresh', 'fence', 'expires', 'pending', 'pexpires', 'since')
  if fence > 0 then
    call('HSET', k, 'last', fence, 'how', how)
  end
  call('PEXPIRE', k, ENDED)
  call('ZREM', P .. ':due', session)
  call('HDEL', key('held', host), session)
  call('ZREM', key('waiting', host), session)
  if worker ~= '' then
    call('HDEL', key('taken', host), worker)
    if f[3] == '1' and fence > 0 then
      call('HSET', key('spent', host), worker, how == 'lost' and now + STATIC or 0)
      call('PEXPIRE', key('spent', host), STATIC)
    end
    offer(host, worker, now_us)
  end
  settle(host)
  hint()
end

local function forget_host(host)
  call('ZREM', P .. ':hosts', host)
  call('DEL', key('host', host), key('workers', host), key('ready', host), key('own', host))
  hint()
end

local function leave_queue(session)
  call('ZREM', P .. ':waits', session)
  call('HDEL', P .. ':avoiding', session)
  return call('ZREM', P .. ':queue', session)
end

-- Drop what has expired.
local function purge()
  if BACK >= HOST then
    for _, host in ipairs(call('ZRANGEBYSCORE', P .. ':hosts', '-inf', now)) do
      forget_host(host)
    end
  end
  if BACK >= CONFIRMED then
    for _, session in ipairs(call('ZRANGEBYSCORE', P .. ':due', '-inf', now)) do
      give_up(session, 'lost')
    end
  end
  if BACK >= QUEUED then
    for _, session in ipairs(call('ZRANGEBYSCORE', P .. ':waits', '-inf', now)) do
      leave_queue(session)
      hint()
    end
  end
end

-- What a worker's host says of it, as JSON, or '' for one that it does not have.
local function said_of(claim)
  return claim.worker ~= '' and call('HGET', key('workers', claim.host), claim.worker) or ''
end

-- The host is known, and the worker, if there is one, can still serve.
local function alive(claim)
  if call('EXISTS', key('host', claim.host)) == 0 then
    return false
  end
  if claim.worker == '' then
    return true
  end
  local said = said_of(claim)
  return said ~= '' and cjson.decode(said)[3] ~= 'done'
end

local function claim_reply(session, claim, attempt, fence, expires)
  local h = call('HMGET', key('host', claim.host), 'protocol', 'key')
  return { 'claim', claim.host, said_of(claim), attempt, fence, expires, h[1], h[2], tonumber(claim.fresh),
    tonumber(claim.static) }
end

local function used(host)
  return call('HLEN', key('held', host))
end

-- Units of a host's cap that are to be had.
local function free_units(host)
  local h = call('HMGET', key('host', host), 'cap', 'draining', 'static')
  if h[2] == '1' then
    return 0, h
  end
  return math.max(0, tonumber(h[1]) - used(host)), h
end

-- Whether there is something to be had of it, for somebody.
local function offers(host)
  local free, h = free_units(host)
  return free > 0 and (h[3] ~= '1' or call('ZCARD', key('ready', host)) > 0 or call('HLEN', key('own', host)) > 0)
end

-- Somebody who is talking needs a unit of a full host: whoever has no worker yet gives way, first those whose stream
-- has not started, the newest first.
local function make_room(host, units)
  local cap = tonumber(call('HGET', key('host', host), 'cap') or 0)
  if cap == 0 or used(host) + units <= cap then
    return
  end
  local giving = {}
  for _, session in ipairs(call('HKEYS', key('held', host))) do
    local claim = load(session)
    if claim.fence == 0 or claim.worker == '' then
      giving[#giving + 1] = { session = session, rank = claim.fence == 0 and 0 or 1, since = claim.since }
    end
  end
  table.sort(giving, function(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    return a.since > b.since
  end)
  for _, one in ipairs(giving) do
    if used(host) + units <= cap then
      return
    end
    give_up(one.session, 'moved')
  end
end

-- Take a worker out of a claim that is about to be given up, so that nobody else is given it meanwhile.
local function strip(session)
  call('HSET', key('session', session), 'worker', '')
end

-- Enter a confirmed claim that the registry does not have, or has elsewhere or older: it is somebody's running call.
-- Returns whether it was entered: not if a newer claim has its worker. A reservation for its next stream stays good.
local function restore(session, fence, host, worker, attempt, static)
  local claim = {
    host = host, worker = worker, static = static, fresh = 0, fence = fence, attempt = attempt,
    expires = now + CONFIRMED, pending = 0, pexpires = 0, since = ticket(),
  }
  if worker ~= '' then
    local rival = call('HGET', key('taken', host), worker)
    if rival and rival ~= session then
      if load(rival).fence > fence then
        return false
      end
      strip(rival)
      call('HSET', key('taken', host), worker, session)
      give_up(rival, 'moved')
    end
    call('HSET', key('taken', host), worker, session)
    call('ZREM', key('ready', host), worker)
    local said = said_of(claim)
    local own = said ~= '' and cjson.decode(said)[4] or ''
    if call('HGET', key('own', host), own) == worker then
      call('HDEL', key('own', host), own)
    end
  end
  local old = load(session)
  if old then
    claim.attempt, claim.pending, claim.pexpires = old.attempt, old.pending, old.pexpires
    if old.host == host and old.worker == worker then
      strip(session)
    end
    give_up(session, 'moved')
  end
  make_room(host, 1)
  if worker == '' and call('EXISTS', key('host', host)) == 1 and free_units(host) == 0 then
    return false
  end
  assign(host, session, claim, NOTHING)
  save(session, claim)
  local k = key('session', session)
  call('HSET', k, 'count', math.max(claim.attempt, claim.pending, tonumber(call('HGET', k, 'count') or 0)))
  note_fence(fence)
  return true
end

-- Later news of this host has been heard already, by another way. If not, this is the newest now.
local function is_old(host, seq)
  if seq > 0 and seq < tonumber(call('HGET', key('host', host), 'seq') or 0) then
    return true
  end
  call('HSET', key('host', host), 'seq', seq)
  return false
end

-- What the host says of its workers now. beat: fresh news, which brings a static worker back.
local function set_workers(host, first, count, beat)
  call('DEL', key('workers', host), key('ready', host), key('own', host))
  local known = {}
  for i = first, first + count - 1 do
    local w = cjson.decode(ARGV[i])
    local spent = call('HGET', key('spent', host), w[1])
    known[w[1]] = true
    if spent and beat then
      if w[3] ~= 'ready' then
        call('HSET', key('spent', host), w[1], 0)
      elseif tonumber(spent) <= now then
        call('HDEL', key('spent', host), w[1])
      end
    end
    call('HSET', key('workers', host), w[1], ARGV[i])
    offer(host, w[1], i)
  end
  return known
end

purge()
