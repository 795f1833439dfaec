"""The registry of many nodes, on Redis >= 6.2 or Valkey: every step is one Lua script, by the server's clock.

Keys are `{prefix}:{service}:…` with the service as hash tag, `common.lua` lists them. Beside those, each under a tag of
its own: `session` and `host` (in which service it is), `facts`, `alias`, `once`; and `birth`, by which a node sees that
the server has started empty. The server must not evict (`maxmemory-policy noeviction`, the default).

Running calls need none of it: what a node has confirmed it remembers, and after an outage, or over a registry that
forgot everything, `renew` enters its claims again.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.redis.client import CONNECTIONS, RedisClient
from gateway.pool.redis.codec import read_facts, read_worker, write_facts, write_worker
from gateway.pool.redis.scripts import SERVER_TIME
from gateway.pool.registry import Claim, ClaimResult, Full, Host, Leases, Once, Queued, Slots, Stale
from gateway.protocol.workers import Running, Worker

MERGE_TRIES = 64
"""Writers of one session's facts at the same time; each round, one of them gets through."""
RENEW_AT_ONCE = 250
"""Claims per script: the server does nothing else meanwhile."""
FREED_POLL = 0.08, 0.12
"""Seconds between two looks at the counter of freed slots, by one process for one service."""
EVER = 10**12
"""Milliseconds: the last outage was so long ago."""


@dataclass(slots=True)
class _Place:
    """Where a session's confirmed claim is, as this node knows it."""

    service: str
    host: str
    worker: str
    attempt: int
    fence: int
    static: int
    seen: float


class RedisRegistry:
    """See `gateway.pool.registry.Registry`, and `RedisClient` for url, clock and monotonic.

    prefix: of all keys; several deployments may share one server.
    """

    def __init__(
        self,
        url: str,
        leases: Leases | None = None,
        *,
        prefix: str = "gateway",
        connections: int = CONNECTIONS,
        clock: str = SERVER_TIME,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leases = leases or Leases()
        self._client = RedisClient(url, connections=connections, clock=clock, monotonic=monotonic)
        self._run = self._client.run
        self._prefix = prefix
        self._monotonic = monotonic
        self._birth = ""
        self._places: dict[str, _Place] = {}
        self._freed: dict[str, tuple[float, int]] = {}
        times = self.leases
        self._lease_args = tuple(
            map(_ms, (times.host, times.reserved, times.confirmed, times.queued, times.ended, times.static))
        )
        self._pointer_ttl = _ms(max(times.ended, 2 * times.reserved, 2 * times.confirmed))

    async def close(self) -> None:
        await self._client.close()

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        return await self._run(partial(self._put_host, host, running))

    async def _put_host(self, host: Host, running: Sequence[Running]) -> bool:
        before = await self._client.command("GET", self._key("host", host.id))
        if before not in (None, host.service) and not await self._in(before, "drop_host", host.id, host.epoch, 1):
            return False
        runs = {run.session: run for run in running}
        services = await self._services_of(runs)
        args: list[Any] = [host.id, host.epoch, host.cap, host.protocol, host.link_key, int(host.static), host.seq]
        args += [len(host.workers), *map(write_worker, host.workers)]
        for session, run in runs.items():
            if services[session] in (None, host.service):
                args += [session, run.fence, run.worker]
        known, *believed = await self._in(host.service, "put_host", *args)
        if known:
            await self._point("host", [host.id], host.service)
            await self._point("session", believed, host.service)
        return bool(known)

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        return await self._run(partial(self._beat, host_id, epoch, workers, seq))

    async def _beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int) -> tuple[str, ...] | None:
        service = await self._client.command("GETEX", self._key("host", host_id), "PX", self._pointer_ttl)
        if service is None:
            return None
        known, *waiting = await self._in(service, "beat", host_id, epoch, seq, *map(write_worker, workers))
        return tuple(waiting) if known else None

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._run(partial(self._on_host, "drop_host", host_id, epoch, 0))

    async def drain_host(self, host_id: str, epoch: int) -> None:
        await self._run(partial(self._on_host, "drain_host", host_id, epoch))

    async def _on_host(self, script: str, host_id: str, *args: Any) -> None:
        service = await self._client.command("GET", self._key("host", host_id))
        if service is not None:
            await self._in(service, script, host_id, *args)

    # Claims.

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        avoided = tuple(sorted(set(avoid)))
        match await self._run(partial(self._claim, service, session, avoided, queue)):
            case ["queued", position]:
                return Queued(position)
            case ["full", hosts]:
                return Full(hosts)
            case reply:
                return _claim_of(service, session, reply)

    async def _claim(self, service: str, session: str, avoid: tuple[str, ...], queue: bool) -> list[Any]:
        """One round trip: say in which service the session is, and claim."""
        point = ("SET", self._key("session", session), service, "PX", self._pointer_ttl, "GET")
        args = self._args(session, int(queue), 0, 0, *avoid)
        before, reply = await self._client.command_and_script(point, "claim", self._tag(service), *args)
        if before not in (None, service):
            counted = await self._in(before, "evict", session, *avoid)
            reply = await self._in(service, "claim", session, int(queue), *counted, *avoid)
        return list(reply)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        return await self._run(partial(self._confirm, session, attempt))

    async def _confirm(self, session: str, attempt: int) -> Claim | Stale:
        service = await self._service_and_birth(session)
        return await self._held(service, "confirm", session, attempt)

    async def look(self, session: str, fence: int) -> Claim | Stale:
        return await self._run(partial(self._look, session, fence))

    async def _look(self, session: str, fence: int) -> Claim | Stale:
        service = await self._client.command("GET", self._key("session", session))
        return await self._held(service, "look", session, fence)

    async def _held(self, service: str | None, script: str, session: str, arg: int) -> Claim | Stale:
        if service is None:
            return Stale(spent=False)
        reply = await self._in(service, script, session, arg)
        if reply[0] == "stale":
            return Stale(spent=bool(reply[1]))
        claim = _claim_of(service, session, reply)
        worker = claim.worker.id if claim.worker is not None else ""
        now = self._monotonic()
        self._places[session] = _Place(service, claim.host, worker, claim.attempt, claim.fence, reply[9], now)
        return claim

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        lost: set[str] = set()
        asked = list(claims.items())
        for start in range(0, max(1, len(asked)), RENEW_AT_ONCE):
            lost |= await self._run(partial(self._renew, dict(asked[start : start + RENEW_AT_ONCE])))
        self._forget_places(lost)
        return lost

    async def _renew(self, claims: Mapping[str, int]) -> set[str]:
        await self._service_and_birth("")
        places = {session: self._place_of(session, fence) for session, fence in claims.items()}
        services = await self._services_of([session for session, place in places.items() if place is None])
        services |= {session: place.service for session, place in places.items() if place is not None}
        lost = set()
        if self._client.back >= self.leases.confirmed:
            lost = {session for session, service in services.items() if service is None}
        for service in set(filter(None, services.values())):
            mine = [session for session in claims if services[session] == service]
            args: list[Any] = []
            for session in mine:
                place = places[session]
                args += [session, claims[session]]
                args += [place.host, place.worker, place.attempt, place.static] if place else ["", "", 0, 0]
            kept = dict(zip(mine, await self._in(service, "renew", *args), strict=True))
            lost |= {session for session, ok in kept.items() if not ok}
            await self._point("session", [session for session, ok in kept.items() if ok], service)
        return lost

    def _place_of(self, session: str, fence: int) -> _Place | None:
        place = self._places.get(session)
        if place is None or place.fence != fence:
            return None
        place.seen = self._monotonic()
        return place

    def _forget_places(self, lost: Iterable[str]) -> None:
        """Of claims that are lost, or that nobody has renewed for long: whoever confirmed them is gone."""
        for session in lost:
            self._places.pop(session, None)
        oldest = self._monotonic() - max(self.leases.ended, 2 * self.leases.confirmed)
        for session in [s for s, place in self._places.items() if place.seen < oldest]:
            del self._places[session]

    async def _service_and_birth(self, session: str) -> str | None:
        """In which service it is. By the way: has the server started empty since we last asked? Then what it misses
        has not expired.
        """
        key = self._key("birth")
        mine = uuid.uuid4().hex
        asked = ("SET", key, mine, "NX"), ("GET", key), ("GET", self._key("session", session))
        _, birth, service = await self._client.commands(asked)
        if self._birth not in ("", birth):
            self._client.forgot()
        self._birth = birth
        return service  # type: ignore[no-any-return]  # redis-py's answers are Any

    async def release(self, session: str, fence: int) -> None:
        await self._run(partial(self._release, session, fence))

    async def _release(self, session: str, fence: int) -> None:
        place = self._places.get(session)
        if place is not None and place.fence == fence:
            del self._places[session]
        service = await self._client.command("GET", self._key("session", session))
        if service is not None:
            await self._in(service, "release", session, fence)

    async def leave(self, service: str, session: str) -> None:
        await self._run(partial(self._in, service, "leave", session))

    # Facts, keys, hints.

    async def merge(self, session: str, event: FactEvent) -> Facts:
        return await self._run(partial(self._merge, session, event))

    async def _merge(self, session: str, event: FactEvent) -> Facts:
        """Compare and set: `facts.merge` is the one function that merges, here as in memory."""
        key = self._key("facts", session)
        found = await self._client.command("GET", key) or ""
        for _ in range(MERGE_TRIES):
            known, aliases = read_facts(found) if found else (Facts(session=session), frozenset[str]())
            facts = merge(known, event)
            aliases |= set(event.aliases)
            ttl = _ms(self.leases.ended if facts.status == "ended" else self.leases.facts)
            other = await self._client.script("swap", key, found, write_facts(facts, aliases), ttl)
            if not other:
                await self._name(session, aliases, ttl)
                return facts
            (found,) = other
        raise RegistryUnavailable("too many write the facts of this session at once")

    async def _name(self, session: str, aliases: Iterable[str], ttl: int) -> None:
        """Each alias stays with the session that had it first, and lives as long as its facts."""
        names = [self._key("alias", alias) for alias in aliases]
        asked = [("SET", name, session, "NX", "PX", ttl) for name in names] + [("GET", name) for name in names]
        owners = (await self._client.commands(asked))[len(names) :]
        ours = [name for name, owner in zip(names, owners, strict=True) if owner == session]
        await self._client.commands([("PEXPIRE", name, ttl) for name in ours])

    async def find(self, alias: str) -> Facts | None:
        return await self._run(partial(self._find, alias))

    async def _find(self, alias: str) -> Facts | None:
        session = await self._client.command("GET", self._key("alias", alias))
        found = await self._client.command("GET", self._key("facts", alias if session is None else session))
        return read_facts(found)[0] if found else None

    async def once(self, key: str, ttl: float, value: str = "") -> Once:
        known = await self._run(partial(self._client.script, "once", self._key("once", key), _ms(ttl), value))
        return Once(False, known[0], known[1] / 1000) if known else Once(True, value, 0.0)

    async def freed(self, service: str, timeout: float) -> None:
        before = await self._run(partial(self._count_freed, service))
        try:
            async with asyncio.timeout(timeout):
                while await self._freed_now(service) == before:
                    pass
        except TimeoutError:
            pass

    async def _freed_now(self, service: str) -> int:
        """The counter, a moment later: as somebody else in this process has just seen it, or as it is."""
        await asyncio.sleep(random.uniform(*FREED_POLL))  # noqa: S311 - jitter, not a secret
        seen, count = self._freed[service]
        if time.monotonic() - seen < FREED_POLL[0]:
            return count
        return await self._run(partial(self._count_freed, service))

    async def _count_freed(self, service: str) -> int:
        count = int(await self._client.command("HGET", f"{self._tag(service)}:meta", "freed") or 0)
        self._freed[service] = (time.monotonic(), count)
        return count

    async def slots(self, service: str) -> Slots:
        return Slots(*await self._run(partial(self._in, service, "slots")))

    # Within.

    async def _in(self, service: str, script: str, *args: Any) -> Any:
        """A script on the state of this service."""
        return await self._client.script(script, self._tag(service), *self._args(*args))

    def _args(self, *args: Any) -> tuple[Any, ...]:
        back = self._client.back * 1000
        return int(min(back, EVER)), *self._lease_args, *args

    async def _services_of(self, sessions: Iterable[str]) -> dict[str, str | None]:
        """In which service each of them is."""
        asked = list(sessions)
        services = await self._client.commands([("GET", self._key("session", session)) for session in asked])
        return dict(zip(asked, services, strict=True))

    async def _point(self, kind: str, names: Sequence[str], service: str) -> None:
        """Keep in which service these sessions, or this host, are."""
        ttl = self._pointer_ttl
        await self._client.commands([("SET", self._key(kind, name), service, "PX", ttl) for name in names])

    def _tag(self, service: str) -> str:
        return f"{self._prefix}:{{{service}}}"

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{{{name}}}"


def _claim_of(service: str, session: str, reply: Sequence[Any]) -> Claim:
    _, host, worker, attempt, fence, expires, protocol, link_key, fresh, _ = reply
    return Claim(
        session=session,
        service=service,
        host=host,
        worker=read_worker(worker) if worker else None,
        attempt=attempt,
        fence=fence,
        expires=expires / 1000,
        protocol=protocol,
        link_key=link_key,
        fresh=bool(fresh),
    )


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
