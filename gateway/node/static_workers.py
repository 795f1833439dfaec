"""Workers that know nothing of the gateway: a node asks them how they are, and beats for them as a host would.

Each URL has `slots` workers of the registry's; the base image of Pipecat Cloud has one. They are asked one after
another (`probe_schedule`). One that does not answer is reported as `busy` while a call of this node uses it, and else
as `starting`: never as gone, which would end a call that runs on it. One whose call has ended is busy until it is asked
again: it is the same process that is used again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.probe import Probe
from gateway.node.probe_schedule import ProbeSchedule
from gateway.pool.registry import Claim, Host
from gateway.protocol.workers import LinkProtocol, Worker

log = structlog.get_logger(__name__)

STATIC_HOST = "static:"
"""What the ids of hosts begin with that stand for static workers, and no other host's."""
BATCH_WINDOW = 0.02
"""Workers that are due within this many seconds are asked together. Changes are collected for five times as long, and
told in one beat."""


def static_host(service: str, protocol: LinkProtocol, urls: Iterable[str], link_key: str, slots: int = 1) -> Host:
    """Make a host of these workers, as many at each URL as it has slots."""
    workers = tuple(Worker(name, url, "ready") for url in urls for name in slot_names(url, slots))
    return Host(f"{STATIC_HOST}{service}", 1, service, protocol, len(workers), workers, link_key, static=True)


def slot_names(url: str, slots: int) -> list[str]:
    """Name the workers of a URL: all of them fail where one does."""
    return [url, *(f"{url}#{n}" for n in range(2, slots + 1))]


def same_process(node: Node, claim: Claim) -> frozenset[str]:
    """Return the ids of the claim's worker, and of those that are lost with it: of a static URL, all."""
    if not claim.static or claim.worker is None:
        return frozenset({claim.worker_id})
    service = node.services.get(claim.service)
    slots = service.slots if service is not None else 1
    return frozenset((claim.worker_id, *slot_names(claim.worker.url, slots)))


async def probe_static_workers(node: Node, host: Host) -> None:
    """Probe the workers of this host, and beat for them, until cancelled."""
    await StaticWorkers(node, host).run()


class StaticWorkers:
    """Probe one service's static workers, and tell the registry how they are. See `Node.static_workers`."""

    def __init__(self, node: Node, host: Host) -> None:
        self._node = node
        self._host = host
        self._urls = list(dict.fromkeys(worker.url for worker in host.workers))
        self._slots = Counter(worker.url for worker in host.workers)
        self._url_index = {url: n for n, url in enumerate(self._urls)}
        self._names = [frozenset(slot_names(url, self._slots[url])) for url in self._urls]
        self._ready = [False] * len(self._urls)
        # Made once: a beat tells of all of them.
        self._index = [self._url_index[worker.url] for worker in host.workers]
        self._as_ready = [replace(worker, state="ready") for worker in host.workers]
        self._as_busy = [replace(worker, state="busy") for worker in host.workers]
        self._as_starting = [replace(worker, state="starting") for worker in host.workers]
        self._answers = [False] * len(self._urls)
        self._resting: set[str] = set()
        """Workers whose call has ended since they were asked."""
        self.probes = 0
        """Answered, or not in time."""
        self._in_calls: Counter[str] = Counter()
        self._time = asyncio.get_running_loop().time
        self._schedule = ProbeSchedule(len(self._urls), node.leases.beat, self._time())
        self._news = asyncio.Event()
        self._probes = [
            Probe(url, node.limits.link_timeout, partial(self._answered, n)) for n, url in enumerate(self._urls)
        ]

    async def run(self) -> None:
        """Probe and beat, until the task is cancelled."""
        self._node.static_workers[self._host.service] = self
        asking = self._node.spawn(self._ask(), f"probes of {self._host.service}")
        try:
            await self._beat()
        finally:
            asking.cancel()
            del self._node.static_workers[self._host.service]
            for probe in self._probes:
                probe.close()

    # A session's side.

    def call_began(self, worker: Worker) -> None:
        """A call of this node has it."""
        self._in_calls[worker.url] += 1

    def call_ended(self, worker: Worker) -> None:
        """It is free again, once it says so."""
        if worker.url not in self._url_index:  # of another node's settings
            return
        self._in_calls[worker.url] = max(0, self._in_calls[worker.url] - 1)
        self._resting.add(worker.id)
        self._schedule.hurry(self._url_index[worker.url], self._time())
        self._news.set()

    # Inside.

    async def _ask(self) -> None:
        while True:
            try:
                for n in self._schedule.due(self._time()):
                    self._probes[n].ask()
            except Exception:  # else all of them would be beaten for ever as they were
                words = "static workers not asked: a bug; the next round may go better"
                log.exception(words, service=self._host.service)
            await asyncio.sleep(max(BATCH_WINDOW, min(self._schedule.next - self._time(), self._node.leases.beat)))

    def _answered(self, n: int, status: int | None) -> None:
        """Note what a worker says. One that has no such page but answers counts as ready."""
        self.probes += 1
        url, ready = self._urls[n], status not in (None, 503)
        in_calls = self._in_calls[url] >= self._slots[url]
        rested = self._resting & self._names[n]
        if in_calls or (status is None and not rested):  # it talks, or is gone; one that wraps up is waited for
            self._schedule.ask_seldom(n, self._time())
        answers = status is not None
        changed = ready is not self._ready[n] or answers is not self._answers[n]
        self._ready[n], self._answers[n] = ready, answers
        if ready and rested:
            self._resting -= rested
            changed = True
        if changed:
            self._news.set()

    async def _beat(self) -> None:
        known = -1
        while True:
            began = self._time()
            try:
                ready, states = self._states()
                if ready != known and not self._schedule.first_round(self._time()):
                    log.info("static workers", service=self._host.service, ready=ready)
                    known = ready
                await self._tell(states)
            except Exception:
                words = "static workers not looked after: a bug; the next round may go better"
                log.exception(words, service=self._host.service)
            try:
                async with asyncio.timeout_at(began + self._node.leases.beat):
                    await self._news.wait()
                await asyncio.sleep(min(5 * BATCH_WINDOW, self._node.leases.beat))
            except TimeoutError:
                pass
            self._news.clear()

    def _states(self) -> tuple[int, tuple[Worker, ...]]:
        """Return how many are ready, and all as they are."""
        resting, url_ready = self._resting, self._ready
        ready = [url_ready[n] and w.id not in resting for n, w in zip(self._index, self._as_ready, strict=True)]
        there = [answers or self._in_calls[url] > 0 for url, answers in zip(self._urls, self._answers, strict=True)]
        each = zip(ready, self._index, self._as_ready, self._as_busy, self._as_starting, strict=True)
        return sum(ready), tuple(
            free if is_ready else busy if there[n] else starting for is_ready, n, free, busy, starting in each
        )

    async def _tell(self, states: tuple[Worker, ...]) -> None:
        try:
            if await self._node.registry.beat(self._host.id, self._host.epoch, states) is None:
                await self._node.registry.put_host(replace(self._host, workers=states))
        except RegistryUnavailable:
            pass


async def answers(node: Node, worker: Worker) -> bool:
    """Return whether the process behind this static worker lives: a killed one refuses the connection at once."""
    url = urlsplit(worker.url)
    scheme = "https" if url.scheme == "wss" else "http"
    page = f"{scheme}://{url.netloc}/readyz"
    return await node.http_client.status(page, seconds=node.limits.link_timeout) is not None
