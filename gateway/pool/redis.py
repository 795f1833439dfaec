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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.errors import RegistryUnavailable
from gateway.pool.breaker import Breaker
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.redis_json import read_facts, read_worker, write_facts, write_worker
from gateway.pool.redis_scripts import SERVER_TIME, load_scripts
from gateway.pool.registry import Claim, ClaimResult, Full, Host, Leases, Once, Queued, Slots, Stale
from gateway.protocol.workers import Running, Worker

T = TypeVar("T")

SOCKET_TIMEOUT = 0.25
"""Seconds for a connection, and for an answer. redis-py's defaults (5 s and retries) make a refused server 3 s and a
hung one 10 s: measured."""
CONNECTIONS = 32
"""At once, to one server; more only make each answer later."""
MERGE_TRIES = 64
"""Writers of one session's facts at the same time; each round, one of them gets through."""
RENEW_AT_ONCE = 250
"""Claims per script: the server does nothing else meanwhile."""
FREED_POLL = 0.08, 0.12
"""Seconds between two looks at the counter of freed slots, by one process for one service."""
EVER = 10**12
"""Milliseconds. The last outage was so long ago."""


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
    """See `gateway.pool.registry.Registry`.

    url: `redis://`, `rediss://` or `unix://`. prefix: of all keys; several deployments may share one server.
    clock: the Lua that tells the time (see `redis_scripts`); monotonic: this node's own clock, in seconds, for breaker
    and outages. Connects when it is first asked; belongs to the event loop in which that happens.
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
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import NoScriptError, RedisError

        self.leases = leases or Leases()
        self._failures = (RedisError, OSError)
        self._no_script = NoScriptError
        self._pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=SOCKET_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            encoding_errors="surrogatepass",  # what JSON from outside may hold must not raise here
            protocol=2,
        )
        self._redis = redis.asyncio.Redis(connection_pool=self._pool)
        self._turns = asyncio.Semaphore(connections)
        self._scripts = load_scripts(clock)
        self._prefix = prefix
        self._monotonic = monotonic
        self._breaker = Breaker(monotonic)
        self._birth = ""
        self._places: dict[str, _Place] = {}
        self._freed: dict[str, tuple[float, int]] = {}
        times = self.leases
        self._lease_args = tuple(
            max(1, round(lease * 1000))
            for lease in (times.host, times.reserved, times.confirmed, times.queued, times.ended, times.static)
        )

    async def close(self) -> None:
        """Close the connections. Idempotent; the next question would open new ones."""
        try:
            await self._pool.disconnect()
        except self._failures:
            pass

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        return await self._run(lambda: self._put_host(host, running))

    async def _put_host(self, host: Host, running: Sequence[Running]) -> bool:
        before = await self._ask("GET", self._key("host", host.id))
        if before is not None and before != host.service:
            if not await self._service("drop_host", before, host.id, host.epoch, 1):
                return False
        runs = {run.session: run for run in running}
        elsewhere = await self._services_of(list(runs))
        args: list[Any] = [host.id, host.epoch, host.cap, host.protocol, host.link_key, int(host.static)]
        args += [len(host.workers), *map(write_worker, host.workers)]
        for session, run in runs.items():
            if elsewhere[session] in (None, host.service):
                args += [session, run.fence, run.worker]
        known, *believed = await self._service("put_host", host.service, *args)
        if known:
            await self._point([("host", host.id, host.service), *(("session", s, host.service) for s in believed)])
        return bool(known)

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker]) -> tuple[str, ...] | None:
        return await self._run(lambda: self._beat(host_id, epoch, workers))

    async def _beat(self, host_id: str, epoch: int, workers: Sequence[Worker]) -> tuple[str, ...] | None:
        service = await self._ask("GETEX", self._key("host", host_id), "PX", self._pointer_ttl)
        if service is None:
            return None
        known, *waiting = await self._service("beat", service, host_id, epoch, *map(write_worker, workers))
        return tuple(waiting) if known else None

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._run(lambda: self._on_host("drop_host", host_id, epoch, 0))

    async def drain_host(self, host_id: str, epoch: int) -> None:
        await self._run(lambda: self._on_host("drain_host", host_id, epoch))

    async def _on_host(self, script: str, host_id: str, *args: Any) -> None:
        service = await self._ask("GET", self._key("host", host_id))
        if service is not None:
            await self._service(script, service, host_id, *args)

    # Claims.

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        avoided = tuple(sorted(set(avoid)))
        match await self._run(lambda: self._claim(service, session, avoided, queue)):
            case ["queued", position]:
                return Queued(position)
            case ["full", hosts]:
                return Full(hosts)
            case reply:
                return _claim_of(service, session, reply)

    async def _claim(self, service: str, session: str, avoid: tuple[str, ...], queue: bool) -> list[Any]:
        """One round trip: say in which service the session is, and claim."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.execute_command("SET", self._key("session", session), service, "PX", self._pointer_ttl, "GET")
        args = [session, int(queue), 0, *avoid]
        pipeline.execute_command("EVALSHA", self._scripts["claim"].sha, 1, *self._service_args(service, args))
        before, reply = await pipeline.execute(raise_on_error=False)
        if isinstance(before, Exception):
            raise before
        if isinstance(reply, self._no_script):
            reply = await self._service("claim", service, *args)
        if isinstance(reply, Exception):
            raise reply
        if before is not None and before != service:
            floor = await self._service("evict", before, session)
            reply = await self._service("claim", service, session, int(queue), floor, *avoid)
        return list(reply)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        return await self._run(lambda: self._held("confirm", session, attempt))

    async def look(self, session: str, fence: int) -> Claim | Stale:
        return await self._run(lambda: self._held("look", session, fence))

    async def _held(self, script: str, session: str, arg: int) -> Claim | Stale:
        service = await self._ask("GET", self._key("session", session))
        if service is None:
            return Stale(spent=False)
        reply = await self._service(script, service, session, arg)
        if reply[0] == "stale":
            return Stale(spent=bool(reply[1]))
        claim = _claim_of(service, session, reply)
        worker = claim.worker.id if claim.worker is not None else ""
        self._places[session] = _Place(
            service, claim.host, worker, claim.attempt, claim.fence, reply[9], self._monotonic()
        )
        return claim

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        lost: set[str] = set()
        asked = list(claims.items())
        for start in range(0, max(1, len(asked)), RENEW_AT_ONCE):
            part = dict(asked[start : start + RENEW_AT_ONCE])
            lost |= await self._run(lambda part=part: self._renew(part))  # type: ignore[misc]
        self._forget_places(lost)
        return lost

    async def _renew(self, claims: Mapping[str, int]) -> set[str]:
        await self._note_birth()
        places = {s: self._place_of(s, fence) for s, fence in claims.items()}
        services = await self._services_of([s for s, place in places.items() if place is None])
        services |= {s: place.service for s, place in places.items() if place is not None}
        forgiving = self._breaker.outage.back(self._monotonic()) < self.leases.confirmed
        lost = {s for s, service in services.items() if service is None and not forgiving}
        renewed: list[tuple[str, str, str]] = []
        for service in {service for service in services.values() if service is not None}:
            mine = [s for s in claims if services[s] == service]
            args: list[Any] = []
            for session in mine:
                place = places[session]
                args += [session, claims[session]]
                args += [place.host, place.worker, place.attempt, place.static] if place else ["", "", 0, 0]
            kept = await self._service("renew", service, *args)
            lost |= {s for s, ok in zip(mine, kept, strict=True) if not ok}
            renewed += [("session", s, service) for s, ok in zip(mine, kept, strict=True) if ok]
        await self._point(renewed)
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

    async def _note_birth(self) -> None:
        """Has the server started empty since we last asked? Then nothing that it misses has expired."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.execute_command("SET", self._key("birth"), uuid.uuid4().hex, "NX")
        pipeline.execute_command("GET", self._key("birth"))
        _, birth = await pipeline.execute()
        if self._birth and birth != self._birth:
            self._breaker.outage.forgot(self._monotonic())
        self._birth = birth

    async def release(self, session: str, fence: int) -> None:
        await self._run(lambda: self._release(session, fence))

    async def _release(self, session: str, fence: int) -> None:
        place = self._places.get(session)
        if place is not None and place.fence == fence:
            del self._places[session]
        service = await self._ask("GET", self._key("session", session))
        if service is not None:
            await self._service("release", service, session, fence)

    async def leave(self, service: str, session: str) -> None:
        await self._run(lambda: self._service("leave", service, session))

    # Facts, keys, hints.

    async def merge(self, session: str, event: FactEvent) -> Facts:
        return await self._run(lambda: self._merge(session, event))

    async def _merge(self, session: str, event: FactEvent) -> Facts:
        """Compare and set: `facts.merge` is the one function that merges, here as in memory."""
        key = self._key("facts", session)
        found = await self._ask("GET", key) or ""
        for _ in range(MERGE_TRIES):
            known, aliases = read_facts(found) if found else (Facts(session=session), frozenset())
            facts = merge(known, event)
            aliases |= set(event.aliases)
            ttl = _ms(self.leases.ended if facts.status == "ended" else self.leases.facts)
            other = await self._script("swap", key, found, write_facts(facts, aliases), ttl)
            if not other:
                await self._name(session, aliases, ttl)
                return facts
            (found,) = other
        raise RegistryUnavailable("too many write the facts of this session at once")

    async def _name(self, session: str, aliases: Iterable[str], ttl: int) -> None:
        """Each alias stays with the session that had it first, and lives as long as its facts."""
        names = [self._key("alias", alias) for alias in aliases]
        if not names:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.execute_command("SET", name, session, "NX", "PX", ttl)
            pipeline.execute_command("GET", name)
        owners = (await pipeline.execute())[1::2]
        pipeline = self._redis.pipeline(transaction=False)
        for name, owner in zip(names, owners, strict=True):
            if owner == session:
                pipeline.execute_command("PEXPIRE", name, ttl)
        await pipeline.execute()

    async def find(self, alias: str) -> Facts | None:
        return await self._run(lambda: self._find(alias))

    async def _find(self, alias: str) -> Facts | None:
        session = await self._ask("GET", self._key("alias", alias))
        found = await self._ask("GET", self._key("facts", alias if session is None else session))
        return read_facts(found)[0] if found else None

    async def once(self, key: str, ttl: float, value: str = "") -> Once:
        known = await self._run(lambda: self._script("once", self._key("once", key), _ms(ttl), value))
        return Once(False, known[0], known[1] / 1000) if known else Once(True, value, 0.0)

    async def freed(self, service: str, timeout: float) -> None:
        deadline = self._monotonic() + timeout
        before = await self._run(lambda: self._count_freed(service))
        while (left := deadline - self._monotonic()) > 0:
            pause = random.uniform(*FREED_POLL)  # noqa: S311 - jitter, not a secret
            await asyncio.sleep(min(left, pause))
            seen, count = self._freed.get(service, (0.0, before))
            if self._monotonic() - seen >= FREED_POLL[0]:  # else somebody else in this process has just looked
                count = await self._run(lambda: self._count_freed(service))
            if count != before:
                return

    async def _count_freed(self, service: str) -> int:
        count = int(await self._ask("HGET", f"{self._service_key(service)}:meta", "freed") or 0)
        self._freed[service] = (self._monotonic(), count)
        return count

    async def slots(self, service: str) -> Slots:
        return Slots(*await self._run(lambda: self._service("slots", service)))

    # Within.

    async def _run(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask, unless the server did not answer a moment ago; any failure is RegistryUnavailable."""
        self._breaker.check()
        async with self._turns:
            began = self._breaker.begin()  # it may have failed for others while we waited for a turn
            try:
                answer = await question()
            except self._failures as error:
                self._breaker.failed(began)
                await self._drop_idle()
                raise RegistryUnavailable(f"redis: {type(error).__name__}: {error}") from error
            except BaseException:
                self._breaker.gave_up()
                raise
            self._breaker.succeeded()
            return answer

    async def _drop_idle(self) -> None:
        """The other connections lead to the same dead server, and would fail one by one after its return."""
        try:
            await self._pool.disconnect(inuse_connections=False)
        except self._failures:
            pass

    async def _ask(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)

    async def _service(self, script: str, service: str, *args: Any) -> Any:
        return await self._script(script, *self._service_args(service, args))

    def _service_args(self, service: str, args: Iterable[Any]) -> tuple[Any, ...]:
        back = self._breaker.outage.back(self._monotonic())
        return self._service_key(service), _ms(back) if back < EVER / 1000 else EVER, *self._lease_args, *args

    async def _script(self, name: str, key: str, *args: Any) -> Any:
        script = self._scripts[name]
        try:
            return await self._ask("EVALSHA", script.sha, 1, key, *args)
        except self._no_script:  # a server that started anew
            return await self._ask("EVAL", script.text, 1, key, *args)

    async def _services_of(self, sessions: Sequence[str]) -> dict[str, str | None]:
        """In which service each of them is."""
        pipeline = self._redis.pipeline(transaction=False)
        for session in sessions:
            pipeline.execute_command("GET", self._key("session", session))
        return dict(zip(sessions, await pipeline.execute(), strict=True))

    async def _point(self, pointers: Sequence[tuple[str, str, str]]) -> None:
        """Keep (kind, id, service): in which service it is."""
        pipeline = self._redis.pipeline(transaction=False)
        for kind, name, service in pointers:
            pipeline.execute_command("SET", self._key(kind, name), service, "PX", self._pointer_ttl)
        await pipeline.execute()

    @property
    def _pointer_ttl(self) -> int:
        return _ms(max(self.leases.ended, 2 * self.leases.reserved, 2 * self.leases.confirmed))

    def _service_key(self, service: str) -> str:
        return f"{self._prefix}:{{{service}}}"

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{{{name}}}" if name else f"{self._prefix}:{kind}"


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
    return max(1, int(seconds * 1000))
