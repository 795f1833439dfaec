-- What every script of a service begins with. One script call is one atomic step on the state of one service.
--
-- The last line expires what is due, so every script does, also those that only read.
--
-- KEYS[1] is the prefix of the service's keys and carries its hash tag: all keys below it live in one cluster slot.
--
--   hosts             zset  host -> end of its lease, ms
--   host:<host>       hash  epoch cap protocol key static draining, seq (of the newest news of its workers)
--   workers:<host>    hash  worker -> JSON [id, url, state, session, address, cpu, memory], as the host last said
--   ready:<host>      zset  workers ready for any session and promised to none
--   started_for:<host> hash  session -> worker that was started for it, ready and not yet given
--   slots:<host>      hash  session -> worker ('' while it waits for one); its length is `used`
--   in_use:<host>     hash  worker -> session: the same, seen from the other side
--   waiting:<host>    zset  sessions that hold a unit and wait for a worker, oldest first
--   retired:<host>    hash  static worker that has served -> when a beat may bring it back, ms
--   session:<session> hash  the claim:
--                             host, worker ('' while it waits for one), static, fresh
--                             arrival: its place in the order of all claims, the older the lower
--                             fence: of the confirmed stream, or 0; expires: when that claim ends, ms
--                             pending_attempt: the attempt that is not confirmed yet, or 0;
--                             pending_expires: when that ends, ms
--                           and what outlives it:
--                             given, confirmed: the newest attempt that was given out, and that was confirmed
--                             last: fence of the last confirmed claim that ended; how: see `give_up`
--   due               zset  session -> when its claim ends, ms
--   queue             zset  session on hold -> arrival
--   waits             zset  session on hold -> when its position ends, ms
--   avoiding          hash  session in the queue -> JSON list of the workers it avoids
--   meta              hash  fence: the newest; arrivals: how many; freed: counts hints that a slot may be free
--
-- Lua's numbers are doubles: microseconds since 1970 stay exact until 2255. They must never be concatenated
-- (`..` keeps 14 digits); as arguments of redis.call they keep 17.

local call = redis.call
local PREFIX = KEYS[1]
local clock = {{CLOCK}}
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- Milliseconds since the last outage that the asking node saw. In grace, for one lease after it, nothing of that kind
-- expires: no node could renew it.
local SINCE_OUTAGE = tonumber(ARGV[1])
local HOST, RESERVED, CONFIRMED = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local QUEUED, ENDED, STATIC = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST_ARG = 8 -- the script's own arguments start here

local function key(kind, id)
  return PREFIX .. ':' .. kind .. ':' .. id
end

local function wake_waiting()
  call('HINCRBY', PREFIX .. ':meta', 'freed', 1)
end

local function next_arrival()
  return call('HINCRBY', PREFIX .. ':meta', 'arrivals', 1)
end

-- Fences only grow, also over a registry that forgot them all.
local function note_fence(fence)
  if fence > tonumber(call('HGET', PREFIX .. ':meta', 'fence') or 0) then
    call('HSET', PREFIX .. ':meta', 'fence', fence)
  end
end

-- The claim of a session, or nil.
local function load(session)
  local f = call('HMGET', key('session', session), 'host', 'worker', 'static', 'fresh', 'fence', 'confirmed', 'expires',
    'pending_attempt', 'pending_expires', 'arrival')
  if not f[1] then
    return nil
  end
  local claim = {
    host = f[1], worker = f[2], static = f[3], fresh = f[4], fence = tonumber(f[5]), confirmed = tonumber(f[6] or 0),
    expires = tonumber(f[7]), pending_attempt = tonumber(f[8]), pending_expires = tonumber(f[9]),
    arrival = tonumber(f[10]),
  }
  if claim.pending_attempt > 0 and claim.pending_expires <= now and SINCE_OUTAGE >= CONFIRMED then
    claim.pending_attempt = 0
  end
  return claim
end

local function save(session, claim)
  local k = key('session', session)
  call('HSET', k, 'host', claim.host, 'worker', claim.worker, 'static', claim.static, 'fresh', claim.fresh,
    'fence', claim.fence, 'confirmed', claim.confirmed, 'expires', claim.expires,
    'pending_attempt', claim.pending_attempt, 'pending_expires', claim.pending_expires, 'arrival', claim.arrival)
  call('PERSIST', k)
  local pending_ends = claim.pending_attempt > 0 and claim.pending_expires or 0
  local ends = math.max(claim.fence > 0 and claim.expires or 0, pending_ends)
  call('ZADD', PREFIX .. ':due', ends, session)
end

-- Offer a worker, if it is one to be had.
local function offer(host, worker, order)
  local said = call('HGET', key('workers', host), worker)
  if not said then
    return
  end
  local w = cjson.decode(said)
  if w[3] ~= 'ready' or call('HEXISTS', key('in_use', host), worker) == 1
    or call('HEXISTS', key('retired', host), worker) == 1 then
    return
  end
  if w[4] == '' then
    call('ZADD', key('ready', host), order, worker)
  else
    call('HSETNX', key('started_for', host), w[4], worker)
  end
end

-- The worker that this session would get, without taking it: one started for it, or else one started for none.
-- avoid: { n = how many, set = { [worker] = true } }.
local function best_worker(host, session, avoid)
  local own = call('HGET', key('started_for', host), session)
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

local AVOID_NONE = { n = 0, set = {} }

-- Enter the claim with its unit, and with a worker if there is one.
local function assign(host, session, claim, avoid)
  if claim.worker == '' then
    local worker = best_worker(host, session, avoid)
    if worker then
      claim.worker, claim.fresh = worker, 1
      call('ZREM', key('ready', host), worker)
      if call('HGET', key('started_for', host), session) == worker then
        call('HDEL', key('started_for', host), session)
      end
    end
  end
  call('HSET', key('slots', host), session, claim.worker)
  if claim.worker == '' then
    call('ZADD', key('waiting', host), claim.arrival, session)
  else
    call('ZREM', key('waiting', host), session)
    call('HSET', key('in_use', host), claim.worker, session)
  end
end

-- Give workers that have come free on this host to the sessions that wait for one, oldest first. What they avoid does not
-- matter: a search that is given such a worker claims again.
local function give_free_workers(host)
  for _, session in ipairs(call('ZRANGE', key('waiting', host), 0, -1)) do
    if call('ZCARD', key('ready', host)) == 0 and call('HLEN', key('started_for', host)) == 0 then
      break
    end
    local claim = load(session)
    if claim then
      assign(host, session, claim, AVOID_NONE)
      save(session, claim)
    end
  end
end

-- Whether this fence was given up for good. What a host still says of it is of a bot that outstays its call.
local function was_released(last, how, fence)
  return last == fence and (how == 'released' or how == 'avoided')
end

-- The unit is free again. The worker is not offered yet.
local function unassign(host, session, worker)
  call('HDEL', key('slots', host), session)
  call('ZREM', key('waiting', host), session)
  if worker ~= '' then
    call('HDEL', key('in_use', host), worker)
  end
end

-- End a claim. how: 'released' by its holder; 'avoided' because its worker failed; 'moved' because it had to go from
-- where it was; 'lost' as it expired.
local function give_up(session, how)
  local k = key('session', session)
  local f = call('HMGET', k, 'host', 'worker', 'static', 'fence')
  local host, worker, fence = f[1], f[2], tonumber(f[4])
  if not host then -- a server that evicts has dropped it; one claim that is off must not block all others
    call('ZREM', PREFIX .. ':due', session)
    return
  end
  call('HDEL', k, 'host', 'worker', 'static', 'fresh', 'fence', 'expires', 'pending_attempt', 'pending_expires',
    'arrival')
  if fence > 0 then
    call('HSET', k, 'last', fence, 'how', how)
  end
  call('PEXPIRE', k, ENDED)
  call('ZREM', PREFIX .. ':due', session)
  unassign(host, session, worker)
  if worker ~= '' then
    if f[3] == '1' and fence > 0 then
      call('HSET', key('retired', host), worker, how == 'lost' and now + STATIC or 0)
      call('PEXPIRE', key('retired', host), STATIC)
    end
    offer(host, worker, now_us)
  end
  give_free_workers(host)
  wake_waiting()
end

-- Its claims, and with them slots, in_use and waiting, stay: they go one by one as their leases end.
local function forget_host(host)
  call('ZREM', PREFIX .. ':hosts', host)
  call('DEL', key('host', host), key('workers', host), key('ready', host), key('started_for', host))
  wake_waiting()
end

local function leave_queue(session)
  call('ZREM', PREFIX .. ':waits', session)
  call('HDEL', PREFIX .. ':avoiding', session)
  return call('ZREM', PREFIX .. ':queue', session)
end

-- Drop what has expired.
local function purge()
  if SINCE_OUTAGE >= HOST then
    for _, host in ipairs(call('ZRANGEBYSCORE', PREFIX .. ':hosts', '-inf', now)) do
      forget_host(host)
    end
  end
  if SINCE_OUTAGE >= CONFIRMED then
    for _, session in ipairs(call('ZRANGEBYSCORE', PREFIX .. ':due', '-inf', now)) do
      give_up(session, 'lost')
    end
  end
  if SINCE_OUTAGE >= QUEUED then
    for _, session in ipairs(call('ZRANGEBYSCORE', PREFIX .. ':waits', '-inf', now)) do
      leave_queue(session)
      wake_waiting()
    end
  end
end

-- What a worker's host says of it, as JSON, or '' for one that it does not have.
local function worker_json(claim)
  return claim.worker ~= '' and call('HGET', key('workers', claim.host), claim.worker) or ''
end

-- The host is known, and the worker, if there is one, can still serve.
local function is_alive(claim)
  if call('EXISTS', key('host', claim.host)) == 0 then
    return false
  end
  if claim.worker == '' then
    return true
  end
  local said = worker_json(claim)
  return said ~= '' and cjson.decode(said)[3] ~= 'done'
end

local function claim_of(session, claim, attempt, fence, expires)
  local h = call('HMGET', key('host', claim.host), 'protocol', 'key')
  return { 'claim', claim.host, worker_json(claim), attempt, fence, expires, h[1], h[2], tonumber(claim.fresh),
    tonumber(claim.static) }
end

local function used(host)
  return call('HLEN', key('slots', host))
end

-- The cap of a host that is known, what of it is free to be given, and whether its workers are static.
local function units_of(host)
  local h = call('HMGET', key('host', host), 'cap', 'draining', 'static')
  local cap, draining = tonumber(h[1]) or 0, h[2] == '1' -- no cap: a server that evicts has dropped the host
  return { cap = cap, free = draining and 0 or math.max(0, cap - used(host)), static = h[3] == '1' }
end

-- Whether a newcomer could be given a slot here.
local function offers(host)
  local units = units_of(host)
  local ready = call('ZCARD', key('ready', host)) + call('HLEN', key('started_for', host))
  return units.free > 0 and (not units.static or ready > 0)
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
  call('DEL', key('workers', host), key('ready', host), key('started_for', host))
  local known = {}
  for i = first, first + count - 1 do
    local w = cjson.decode(ARGV[i])
    local spent = call('HGET', key('retired', host), w[1])
    known[w[1]] = true
    if spent and beat then
      if w[3] ~= 'ready' then
        call('HSET', key('retired', host), w[1], 0)
      elseif tonumber(spent) <= now then
        call('HDEL', key('retired', host), w[1])
      end
    end
    call('HSET', key('workers', host), w[1], ARGV[i])
    offer(host, w[1], i)
  end
  return known
end

purge()
