"""The registry of many nodes, on Redis >= 6.2 or Valkey: every step is one Lua script, by the server's clock.

Keys of a service are `PREFIX:{SERVICE}:…`, and `common.lua` lists them. The others are `PREFIX:kind:{NAME}`: `session`
and `host`, which name the service that has them, `facts`, `alias`, `once`, `text` and `mailbox` (see `shared_state`);
and `birth`, by which a node sees that the server has started empty. The braces are hash tags, for proxies that split
keys by them: one script needs the keys of one tag. Redis Cluster itself is not supported: `client` speaks to one
server. The server must not evict (`maxmemory-policy noeviction`, the default).

Running calls need none of it: what a node has confirmed it remembers, and after an outage, or over a registry that
forgot everything, `renew` enters its claims again.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import BadAnswer
from gateway.pool.redis import codec
from gateway.pool.redis.client import CONNECTIONS, RedisClient, milliseconds, one_question
from gateway.pool.redis.scripts import SERVER_TIME
from gateway.pool.redis.shared_state import SharedState
from gateway.pool.registry import Claim, ClaimResult, Host, Leases, PoolCounts, Queued, Stale
from gateway.protocol.workers import Running, Worker

RENEW_AT_ONCE = 250
"""Claims per script: the server does nothing else meanwhile."""
FREED_POLL = 0.08, 0.12
"""Seconds between two looks at the counter of freed slots, by one process for one service that has callers on hold: ten
small reads a second. A subscription would need a connection of its own, and this counter all the same for what it
misses while it is cut off, to save a caller on hold some 50 ms."""
LONG_AGO = 10**12
"""Milliseconds since the last outage, if there was none."""


@dataclass(slots=True)
class _KnownClaim:
    """A session's confirmed claim, as this node knows it.

    seen: monotonic seconds at which it was last confirmed, or asked to be renewed.
    """

    service: str
    host: str
    worker: str
    attempt: int
    fence: int
    static: int
    seen: float


class RedisRegistry(SharedState):
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
        client = RedisClient(url, connections=connections, clock=clock, monotonic=monotonic)
        super().__init__(client, self.leases, prefix)
        self._monotonic = monotonic
        self._birth = ""
        self._known_claims: dict[str, _KnownClaim] = {}
        self._freed: dict[str, tuple[float, int]] = {}
        times = self.leases
        # In the order of common.lua.
        self._lease_args = tuple(
            map(milliseconds, (times.host, times.reserved, times.confirmed, times.queued, times.ended, times.static))
        )
        self._pointer_ttl = milliseconds(max(times.ended, 2 * times.reserved, 2 * times.confirmed))

    async def close(self) -> None:
        await self._client.close()

    # Hosts.

    @one_question
    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        # Not one step. If this process dies between them, the pointer names another service or none: the host's next
        # beat is answered as an unknown host's, and it registers again.
        # A host that has gone to another service leaves the old one first.
        before = codec.read_text(await self._client.command("GET", self._key("host", host.id)))
        if before is not None and before != host.service:
            dropped = await self._on_service(before, "drop_host", host.id, host.epoch, 1)  # 1: with its sessions
            if not codec.read_count(dropped):  # a newer start of it is there
                return False
        # Sessions that have gone to another service are not the host's to report.
        runs = {run.session: run for run in running}
        services = await self._services_of(runs)
        args: list[Any] = [host.id, host.epoch, host.cap, host.protocol, host.link_key, int(host.static), host.seq]
        args += [len(host.workers), *map(codec.write_worker, host.workers)]
        for session, run in runs.items():
            if services[session] in (None, host.service):
                args += [session, run.fence, run.worker]
        known, believed = codec.read_flag_and_names(await self._on_service(host.service, "put_host", *args))
        if known:
            await self._write_pointers("host", [host.id], host.service)
            await self._write_pointers("session", believed, host.service)
        return known

    @one_question
    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        pointer = await self._client.command("GETEX", self._key("host", host_id), "PX", self._pointer_ttl)
        service = codec.read_text(pointer)
        if service is None:
            return None
        said = map(codec.write_worker, workers)
        known, waiting = codec.read_flag_and_names(await self._on_service(service, "beat", host_id, epoch, seq, *said))
        return waiting if known else None

    @one_question
    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._on_host("drop_host", host_id, epoch, 0)

    @one_question
    async def drain_host(self, host_id: str, epoch: int) -> None:
        await self._on_host("drain_host", host_id, epoch)

    async def _on_host(self, script: str, host_id: str, *args: Any) -> None:
        service = codec.read_text(await self._client.command("GET", self._key("host", host_id)))
        if service is not None:
            await self._on_service(service, script, host_id, *args)

    # Claims.

    @one_question
    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        """One round trip: say in which service the session is, and claim.

        If this process dies before it has left the session's former service, that one's claim ends with its lease.
        """
        avoid = sorted(set(avoid))
        point = ("SET", self._key("session", session), service, "PX", self._pointer_ttl, "GET")
        args = self._args(session, int(queue), 0, 0, *avoid)  # 0, 0: no attempts counted elsewhere
        pointer, reply = await self._client.command_and_script(point, "claim", self._tag(service), *args)
        if (before := codec.read_text(pointer)) is not None and before != service:
            counted = codec.read_counts(await self._on_service(before, "move_out", session, *avoid), 2)
            reply = await self._on_service(service, "claim", session, int(queue), *counted, *avoid)
        result = codec.read_claim_result(service, session, reply)
        if isinstance(result, Queued):
            self._freed[service] = (time.monotonic(), result.freed)
        return result

    @one_question
    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        [service] = await self._check_birth(("GET", self._key("session", session)))
        return await self._ask_claim(codec.read_text(service), "confirm", session, attempt)

    @one_question
    async def get_claim(self, session: str, fence: int | None) -> Claim | Stale:
        service = codec.read_text(await self._client.command("GET", self._key("session", session)))
        return await self._ask_claim(service, "get_claim", session, -1 if fence is None else fence)

    async def _ask_claim(self, service: str | None, script: str, session: str, arg: int) -> Claim | Stale:
        if service is None:
            return Stale(spent=False)
        claim = codec.read_claim(service, session, await self._on_service(service, script, session, arg))
        if isinstance(claim, Claim):
            self._known_claims[session] = _KnownClaim(
                service, claim.host, claim.worker_id, claim.attempt, claim.fence, int(claim.static), self._monotonic()
            )
        return claim

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        lost: set[str] = set()
        every = list(claims.items())
        # Once even for none: a registry that is down says so, here as in memory.
        for start in range(0, max(1, len(every)), RENEW_AT_ONCE):
            lost |= await self._renew(dict(every[start : start + RENEW_AT_ONCE]))
        self._forget_claims(lost)
        return lost

    @one_question
    async def _renew(self, claims: Mapping[str, int]) -> set[str]:
        await self._check_birth()
        remembered = {session: self._known_claim(session, fence) for session, fence in claims.items()}
        # What we remember needs no look-up.
        services = await self._services_of([session for session, known in remembered.items() if known is None])
        services |= {session: known.service for session, known in remembered.items() if known is not None}
        lost = set()
        # In grace, a session that no service knows was lost by the server: its stream keeps it.
        if self._client.seconds_since_outage >= self.leases.confirmed:
            lost = {session for session, service in services.items() if service is None}
        for service in set(filter(None, services.values())):
            mine = [session for session in claims if services[session] == service]
            args: list[Any] = []
            for session in mine:
                known = remembered[session]
                args += [session, claims[session]]
                args += [known.host, known.worker, known.attempt, known.static] if known else ["", "", 0, 0]
            answers = codec.read_counts(await self._on_service(service, "renew", *args), len(mine))
            kept = dict(zip(mine, answers, strict=True))
            lost |= {session for session, ok in kept.items() if not ok}
            await self._write_pointers("session", [session for session, ok in kept.items() if ok], service)
        return lost

    def _known_claim(self, session: str, fence: int) -> _KnownClaim | None:
        known = self._known_claims.get(session)
        if known is None or known.fence != fence:
            return None
        known.seen = self._monotonic()
        return known

    def _forget_claims(self, lost: Iterable[str]) -> None:
        """Forget claims that are lost, or were not renewed for long: the node that confirmed them is gone."""
        for session in lost:
            self._known_claims.pop(session, None)
        oldest = self._monotonic() - max(self.leases.ended, 2 * self.leases.confirmed)
        for session in [s for s, known in self._known_claims.items() if known.seen < oldest]:
            del self._known_claims[session]

    async def _check_birth(self, *more: tuple[Any, ...]) -> list[Any]:
        """Note whether the server has started empty: what it lacks then was lost, and has not expired.

        more: commands for the same round trip. Returns their answers.
        """
        key = self._key("birth")
        mine = uuid.uuid4().hex
        _, answer, *answers = await self._client.commands((("SET", key, mine, "NX"), ("GET", key), *more))
        birth = codec.read_text(answer)
        if birth is None:
            raise BadAnswer("redis: it has forgotten at once what was set")
        if self._birth not in ("", birth):
            self._client.forgot()
        self._birth = birth
        return answers

    @one_question
    async def release(self, session: str, fence: int) -> None:
        known = self._known_claims.get(session)
        if known is not None and known.fence == fence:
            del self._known_claims[session]
        service = codec.read_text(await self._client.command("GET", self._key("session", session)))
        if service is not None:
            await self._on_service(service, "release", session, fence)

    @one_question
    async def leave_queue(self, service: str, session: str) -> None:
        await self._on_service(service, "leave_queue", session)

    # Hints.

    async def wait_free(self, service: str, timeout: float, freed: int | None = None) -> None:
        before = await self._read_freed_count(service) if freed is None else freed
        try:
            async with asyncio.timeout(timeout):
                while await self._next_freed_count(service) == before:
                    pass
        except TimeoutError:
            pass

    async def _next_freed_count(self, service: str) -> int:
        """Return the counter, a moment later: as another waiter has just read it, or as it is."""
        await asyncio.sleep(random.uniform(*FREED_POLL))  # noqa: S311 - jitter, not a secret
        seen, count = self._freed.get(service, (-math.inf, 0))
        # Not `self._monotonic`: tests pass one that stands still, and this sleep is real.
        if time.monotonic() - seen < FREED_POLL[0]:
            return count
        return await self._read_freed_count(service)

    @one_question
    async def _read_freed_count(self, service: str) -> int:
        count = codec.read_count(await self._client.command("HGET", f"{self._tag(service)}:meta", "freed"))
        self._freed[service] = (time.monotonic(), count)
        return count

    @one_question
    async def slots(self, service: str) -> PoolCounts:
        return codec.read_slots(await self._on_service(service, "slots"))

    # Within.

    async def _on_service(self, service: str, script: str, *args: Any) -> Any:
        """A script on the state of this service."""
        return await self._client.script(script, self._tag(service), *self._args(*args))

    def _args(self, *args: Any) -> tuple[Any, ...]:
        since_outage = self._client.seconds_since_outage * 1000
        return int(min(since_outage, LONG_AGO)), *self._lease_args, *args

    async def _services_of(self, sessions: Iterable[str]) -> dict[str, str | None]:
        """In which service each of them is."""
        names = list(sessions)
        found = await self._client.commands([("GET", self._key("session", session)) for session in names])
        services = map(codec.read_text, found)
        return dict(zip(names, services, strict=True))

    async def _write_pointers(self, kind: str, names: Sequence[str], service: str) -> None:
        """Keep in which service these sessions, or this host, are."""
        ttl = self._pointer_ttl
        await self._client.commands([("SET", self._key(kind, name), service, "PX", ttl) for name in names])

    def _tag(self, service: str) -> str:
        return f"{self._prefix}:{{{service}}}"
