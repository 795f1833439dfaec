-- host, epoch, cap, protocol, key, static, seq, number of workers, workers..., (session, fence, worker)...
-- Returns 0 if a newer epoch is known, else 1 and the running sessions that were believed.

local host, epoch = ARGV[FIRST_ARG], tonumber(ARGV[FIRST_ARG + 1])
local cap, static = ARGV[FIRST_ARG + 2], ARGV[FIRST_ARG + 5]
local seq, count = tonumber(ARGV[FIRST_ARG + 6]), tonumber(ARGV[FIRST_ARG + 7])

local h = call('HMGET', key('host', host), 'epoch', 'draining')
local known_epoch = tonumber(h[1] or epoch)
if known_epoch > epoch then
  return { 0 }
end
call('ZADD', PREFIX .. ':hosts', now + HOST, host)
if h[1] and known_epoch == epoch and is_old(host, seq) then
  return { 1 }
end
-- A host that drains says so to each gateway, and registers with each: the same start of it is not another host.
local draining = (h[1] and known_epoch == epoch) and h[2] or 0
call('HSET', key('host', host), 'epoch', epoch, 'cap', cap, 'protocol', ARGV[FIRST_ARG + 3], 'key', ARGV[FIRST_ARG + 4],
  'static', static, 'draining', draining, 'seq', seq)
local known = set_workers(host, FIRST_ARG + 8, count, false)

-- A session stays with the host if its worker does, or if it had none yet.
local slots = call('HGETALL', key('slots', host))
for i = 1, #slots, 2 do
  local session, worker = slots[i], slots[i + 1]
  if worker ~= '' and not known[worker] then
    give_up(session, 'moved')
  end
end

local believed = { 1 } -- the answer: known, and the sessions
for i = FIRST_ARG + 8 + count, #ARGV, 3 do
  local session, fence, worker = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local claim = load(session)
  local f = call('HMGET', key('session', session), 'last', 'how', 'given')
  local last = tonumber(f[1] or 0)
  local newer = fence > 0 and fence >= last and not was_released(last, f[2], fence)
    and not (claim and claim.fence >= fence)
  -- No registry can have given this fence yet: it would be the floor of all later ones.
  local possible = fence <= math.max(tonumber(call('HGET', PREFIX .. ':meta', 'fence') or 0), now_us + {{MAX_FENCE_LEAD_US}})
  -- A live host of another name has the session, and no outage can have lost a newer claim.
  local elsewhere = claim and claim.fence > 0 and claim.host ~= host and SINCE_OUTAGE >= CONFIRMED
    and call('EXISTS', key('host', claim.host)) == 1
  if newer and possible and not elsewhere and known[worker] then
    local attempt = claim and claim.confirmed or math.max(1, tonumber(f[3] or 0))
    if restore(session, fence, host, worker, attempt, static) then
      believed[#believed + 1] = session
    end
  end
end
make_room(host, 0)
give_free_workers(host)
wake_waiting()
return believed
