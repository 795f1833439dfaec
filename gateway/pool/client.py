"""The registry as a node uses it: with deadlines, without the workers that did not answer, noting claims in flight.

A `RegistryClient` is a `Registry` around another one. It adds what only the asking process can know: how long its
callers can wait, which workers and hosts it could not reach lately, and for which sessions it is asking right now.

Three things know that a registry is away, each for its own reader: `registry_failed` here wakes what sends facts again;
`breaker` decides whether the server is asked now; `outage` gives leases their grace afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from gateway.errors import BadAnswer, RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import (
    Claim,
    ClaimResult,
    Host,
    Leases,
    PoolCounts,
    Queued,
    Registry,
    SetResult,
    Stale,
    TextChange,
)
from gateway.pool.runtime_timeout import runtime_timeout
from gateway.protocol.workers import Running, Worker

T = TypeVar("T")

TIMEOUT = 1.0
"""Seconds: a registry that has not answered by then is down, as a webhook must be answered."""
SUSPECT = 5.0
"""Seconds that a worker that did not answer is avoided."""


class RegistryClient(Registry):
    """See the module's docstring. Every method raises nothing but RegistryUnavailable.

    timeout, suspect: seconds, see the constants. on_claim: is told how long each claim took, in seconds, and its
    outcome: "claimed", "queued", "full", "unavailable" or "canceled". on_failure: of each question without an answer,
    why: "timeout", "unavailable" or "bad_answer". on_facts: is told what is known of a session after each merge.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        timeout: float = TIMEOUT,
        suspect: float = SUSPECT,
        leases: Leases = Leases(),  # noqa: B008 - frozen
        on_claim: Callable[[float, str], None] = lambda _seconds, _outcome: None,
        on_failure: Callable[[str], None] = lambda _reason: None,
        on_facts: Callable[[Facts], None] = lambda _facts: None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry
        self.timeout = timeout
        self._suspect_seconds = suspect
        self._leases = leases
        self.on_claim = on_claim
        self._on_failure = on_failure
        self._on_facts = on_facts
        self.registry_failed = asyncio.Event()
        """The registry has left a question unanswered since this was cleared."""
        self.claims_in_flight: Counter[str] = Counter()
        """Sessions for which a claim or a fence is being asked for at this moment."""
        self._suspects: dict[str, float] = {}
        """Workers and hosts that are not taken, and until when (unix time)."""
        self.unix_time = unix_time

    # Who is avoided.

    def suspect(self, worker_id: str) -> None:
        """Avoid a worker that did not answer, for a while."""
        self._suspects[worker_id] = self.unix_time() + self._suspect_seconds

    def suspect_host(self, host_id: str) -> None:
        """Avoid a host whose connection broke, until it is back or its lease is over."""
        self._suspects[host_id] = self.unix_time() + self._leases.host

    def trust_host(self, host_id: str) -> None:
        """Take workers of this host again."""
        self._suspects.pop(host_id, None)

    def suspected(self) -> frozenset[str]:
        """Return the workers and hosts that are not to be taken now."""
        now = self.unix_time()
        self._suspects = {name: until for name, until in self._suspects.items() if until > now}
        return frozenset(self._suspects)

    # Claims.

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        began, outcome = time.perf_counter(), "canceled"
        try:
            with self._in_flight(session):
                avoided = self.suspected().union(avoid)
                result = await self._ask(self.registry.claim(service, session, avoid=avoided, queue=queue))
            outcome = "claimed" if isinstance(result, Claim) else "queued" if isinstance(result, Queued) else "full"
            return result
        except RegistryUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self.on_claim(time.perf_counter() - began, outcome)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        with self._in_flight(session):
            return await self._ask(self.registry.confirm(session, attempt))

    async def get_claim(self, session: str, fence: int | None) -> Claim | Stale:
        return await self._ask(self.registry.get_claim(session, fence))

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        return await self._ask(self.registry.renew(claims))

    async def release(self, session: str, fence: int) -> None:
        await self._ask(self.registry.release(session, fence))

    async def leave_queue(self, service: str, session: str) -> None:
        await self._ask(self.registry.leave_queue(service, session))

    async def wait_free(self, service: str, timeout: float, freed: int | None = None) -> None:
        try:
            await self.registry.wait_free(service, timeout, freed)  # a wait by its own deadline
        except RegistryUnavailable as error:
            self._note_failure(error)
            raise

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        return await self._ask(self.registry.put_host(host, running))

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        return await self._ask(self.registry.beat(host_id, epoch, workers, seq))

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._ask(self.registry.drop_host(host_id, epoch))

    async def drain_host(self, host_id: str, epoch: int) -> None:
        await self._ask(self.registry.drain_host(host_id, epoch))

    async def slots(self, service: str) -> PoolCounts:
        return await self._ask(self.registry.slots(service))

    # Facts.

    async def merge(self, session: str, event: FactEvent) -> Facts:
        facts = await self._ask(self.registry.merge(session, event))
        self._on_facts(facts)
        return facts

    async def find(self, alias: str) -> Facts | None:
        return await self._ask(self.registry.find(alias))

    async def set_if_absent(self, key: str, ttl: float, value: str = "") -> SetResult:
        return await self._ask(self.registry.set_if_absent(key, ttl, value))

    async def change(self, key: str, ttl: float, change: TextChange[T]) -> T:
        return await self._ask(self.registry.change(key, ttl, change))

    async def send(self, mailbox: str, message: str) -> None:
        await self._ask(self.registry.send(mailbox, message))

    async def receive(self, mailbox: str) -> list[str]:
        return await self._ask(self.registry.receive(mailbox))

    async def close(self) -> None:
        await self.registry.close()

    # How it asks.

    async def _ask(self, answer: Awaitable[T]) -> T:
        """Wait for the answer as long as a caller can; after that the registry counts as down."""
        try:
            async with runtime_timeout(self.timeout):
                return await answer
        except TimeoutError:
            self._failed("timeout")
            raise RegistryUnavailable("the registry did not answer in time") from None
        except RegistryUnavailable as error:
            self._note_failure(error)
            raise

    def _note_failure(self, error: RegistryUnavailable) -> None:
        self._failed("bad_answer" if isinstance(error, BadAnswer) else "unavailable")

    def _failed(self, reason: str) -> None:
        self.registry_failed.set()
        self._on_failure(reason)

    @contextmanager
    def _in_flight(self, session: str) -> Iterator[None]:
        self.claims_in_flight[session] += 1
        try:
            yield
        finally:
            self.claims_in_flight[session] -= 1
            if not self.claims_in_flight[session]:
                del self.claims_in_flight[session]
