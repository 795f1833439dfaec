"""A cluster on loopback: Redis, gateways, worker hosts and a balancer, all real, all ended with it.

carriers → balancer → gateways a, b → workers of hosts h1, h2; Redis beside them
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gateway.errors import RegistryUnavailable
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Leases, PoolCounts
from gateway.secrecy import INSPECTABLE_VARIABLE
from gateway.simulator import CallPlan, CallReport, Credentials, place_call
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.telnyx import TelnyxAccount
from gateway.simulator.twilio import TwilioAccount
from tests.acceptance.program import (
    EXOTEL_SECRET,
    PLIVO_ID,
    PLIVO_TOKEN,
    TELNYX_SEED,
    TWILIO_SID,
    TWILIO_TOKEN,
    CarrierRest,
    free_port,
    settings,
)
from tests.cluster.balancer import Backend, Balancer
from tests.cluster.haproxy import HAProxy
from tests.cluster.heard import bots_heard, in_order, longest_gap
from tests.kit.bots import notes_of, place_bot
from tests.kit.processes import MARK, PROGRAM, Process, is_marked, kill_marked
from tests.kit.waiting import until
from tests.pool.server import Server as Redis

SERVICE = "tone.acme"
HUNG = 2.5
"""Seconds after which a worker that does not answer is given up (`hung_worker_seconds`; 10 by default)."""
WORKER_KEY = "worker-key-of-the-cluster-tests"
CARRIERS = ("twilio", "telnyx", "plivo", "exotel")
CREDENTIALS = Credentials(
    twilio=TwilioAccount(TWILIO_SID, TWILIO_TOKEN),
    telnyx=TelnyxAccount(TELNYX_SEED),
    plivo=PlivoAccount(PLIVO_ID, PLIVO_TOKEN),
    exotel=ExotelAccount("exotel1", EXOTEL_SECRET),
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that is over: what its caller heard, and what its bots noted."""

    report: CallReport
    notes: list[dict[str, Any]]

    @property
    def carrier(self) -> str:
        return self.report.carrier

    @property
    def gap(self) -> float:
        """Seconds of the longest silence."""
        return longest_gap(self.report)

    @property
    def heard(self) -> list[int]:
        """The bots, by their tones, in the order in which they were heard."""
        return bots_heard(self.report)

    @property
    def in_order(self) -> bool:
        """No bot was heard again once another had taken the call."""
        return in_order(self.heard, self.pids)

    @property
    def whole(self) -> bool:
        """It went on until its caller had had enough."""
        return self.report.outcome == "completed" and self.report.ended_by == "caller"

    @property
    def starts(self) -> list[dict[str, Any]]:
        """One for each bot."""
        return [note for note in self.notes if note["what"] == "start"]

    @property
    def pids(self) -> list[int]:
        return [note["pid"] for note in self.starts]

    @property
    def statuses(self) -> list[str]:
        return [note["status"] for note in self.notes if note["what"] == "status"]

    def __str__(self) -> str:
        """For a person who wonders what became of it."""
        streams = [(log.ended_by, log.close_code, log.error) for log in self.report.streams]
        http = [(x.method, x.path.partition("?")[0], x.status, round(x.ms), x.error) for x in self.report.http]
        return (
            f"{self.carrier}: {self.report.outcome}, ended by {self.report.ended_by}, {self.report.seconds:.1f} s, "
            f"gap {self.gap:.2f} s\n  verbs {self.report.verbs}\n  streams {streams}\n  http {http}\n"
            f"  notes {self.notes}\n  heard {self.heard}\n  remarks {self.report.notes} {self.report.violations}"
        )


class Cluster:
    """See the module's docstring.

    gateways, hosts: by name. warm, most: of each host. haproxy: instead of the tests' own balancer. holes: the way from
    HAProxy to each gateway leads through a relay that can become a black hole (`holes[name].swallow(name)`). bot: the
    hosts'; None: the tone. host_env: of the hosts. service: further settings of the one service.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gateways: Iterable[str] = ("a", "b"),
        hosts: Iterable[str] = ("h1", "h2"),
        warm: int = 4,
        most: int = 30,
        drain_seconds: float = 20.0,
        haproxy: bool = False,
        holes: bool = False,
        bot: Path | None = None,
        host_env: Mapping[str, str] | None = None,
        **service: Any,
    ) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        self.redis = Redis()
        self.rest = CarrierRest()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.ports = {name: free_port() for name in gateways}
        self.bot = bot or place_bot("tone", folder)
        self.notes_file = self.bot.with_suffix(".jsonl")
        config = folder / "cluster.toml"
        config.write_text(self._config(drain_seconds, service))
        self.gateways = {
            name: self._process(name, ["serve", "--config", str(config), "--port", str(port)])
            for name, port in self.ports.items()
        }
        register = [word for port in self.ports.values() for word in ("--gateway", f"ws://127.0.0.1:{port}")]
        worker = ["worker", str(self.bot), "--service-host", SERVICE, "--warm", str(warm), "--max", str(most)]
        self._warm = warm * len(tuple(hosts))
        self.hosts = {name: self._process(name, [*worker, *register], host_env or {}) for name in hosts}
        self.holes = {name: Balancer(free_port(), [Backend(name, port)]) for name, port in self.ports.items() if holes}
        self.balancer = Balancer(port, [Backend(name, port) for name, port in self.ports.items()])
        reached = self.ports | {name: hole.port for name, hole in self.holes.items()}
        self.haproxy = HAProxy(folder, port, reached) if haproxy else None
        self._registry: RedisRegistry | None = None
        self._stack = AsyncExitStack()

    def _config(self, drain_seconds: float, service: dict[str, Any]) -> str:
        silence = self.folder / "silence.wav"
        with wave.open(str(silence), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000))
        values = {
            "host": SERVICE, "default": True, "sample_rate": 8000, "wrapup_seconds": 2, "hold_audio": str(silence),
            "hung_worker_seconds": HUNG,
        } | service  # fmt: skip
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        return (
            f'registry = "{self.redis.url}"\n'
            + settings(lines, api_url=self.rest.url, public_url=self.url).replace(
                "[server]\n", f"[server]\ndrain_seconds = {drain_seconds}\n"
            )
            + f'\n[workers]\nkeys = ["{WORKER_KEY}"]\n'
        )

    def _process(self, name: str, arguments: list[str], more: Mapping[str, str] = MappingProxyType({})) -> Process:
        env = {MARK: self.mark, INSPECTABLE_VARIABLE: "1", "GATEWAY_WORKER_KEY": WORKER_KEY}
        return Process(name, self.folder, [*PROGRAM, *arguments], env | dict(more))

    # Its life.

    async def __aenter__(self) -> Cluster:
        self._stack.callback(self.rest.close)
        self._stack.callback(self.redis.remove)
        self._stack.callback(self._kill_all)
        try:
            self.redis.start()
            for process in (*self.gateways.values(), *self.hosts.values()):
                process.start()
            for process in self.gateways.values():
                await process.logged("ready")
                await process.logged("worker host registered", len(self.hosts))
            self._registry = RedisRegistry(self.redis.url, Leases())
            self._stack.push_async_callback(self._registry.close)
            for hole in self.holes.values():
                hole.checks = False
                await self._stack.enter_async_context(hole)
            await self._stack.enter_async_context(self.haproxy or self.balancer)
            await self.until_warm(self._warm)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _kill_all(self) -> None:
        kill_marked(self.mark)
        for process in (*self.gateways.values(), *self.hosts.values()):
            process.kill()

    async def restart(self, name: str) -> None:
        """Start a gateway or host that has ended, and wait until it serves."""
        if name in self.hosts:
            before = {gateway.name: _registered(gateway) for gateway in self.gateways.values() if gateway.alive}
            self.hosts[name].start()
            for gateway, count in before.items():
                await self.gateways[gateway].logged("worker host registered", count + 1)
            return
        self.gateways[name].start()
        await self.gateways[name].logged("ready")
        await self.gateways[name].logged("worker host registered", sum(host.alive for host in self.hosts.values()))
        await (self.haproxy or self.balancer).until(name, "up")

    # The pool.

    async def slots(self) -> PoolCounts:
        """As the registry counts them."""
        assert self._registry is not None
        return await self._registry.slots(SERVICE)

    async def until_used(self, used: int, seconds: float = 15.0) -> float:
        """Wait until exactly so many slots are held; how long that took."""
        began, seen = time.monotonic(), None

        async def exactly() -> bool:
            nonlocal seen
            seen = await self._slots_if_any()
            return seen is not None and seen.used == used

        await until(exactly, seconds, lambda: f"{seen}, not {used} used")
        return time.monotonic() - began

    async def _slots_if_any(self) -> PoolCounts | None:
        """None while the registry is away."""
        try:
            return await self.slots()
        except RegistryUnavailable:
            return None

    async def until_known(self, sessions: set[str], seconds: float = 12.0) -> None:
        """Wait until the registry knows whose calls these sessions are, and who serves them."""
        unknown = set(sessions)

        async def all_known() -> bool:
            for session in tuple(unknown):
                if await self._knows(session):
                    unknown.remove(session)
            return not unknown

        await until(all_known, seconds, lambda: f"the registry does not know {unknown}")
        await self.until_used(len(sessions), seconds)

    async def _knows(self, session: str) -> bool:
        assert self._registry is not None
        try:
            facts = await self._registry.find(session)
        except RegistryUnavailable:
            return False
        return facts is not None and facts.call_id != ""

    async def until_warm(self, ready: int = 2, seconds: float = 20.0) -> None:
        async def warm() -> bool:
            return (await self.slots()).ready >= ready

        await until(warm, seconds, f"{ready} warm workers")

    # Calls.

    def plan(self, carrier: str, seconds: float, **changes: Any) -> CallPlan:
        """A caller who stays so long and says nothing, in frames."""
        silence = np.zeros(0, np.int16)
        return CallPlan(
            carrier=carrier, base_url=self.url, credentials=CREDENTIALS, seconds=seconds, linger=0.0,
            **({"audio": silence} | changes),
        )  # fmt: skip

    async def place(self, *carriers: str, seconds: float, within: float = 0.0, **changes: Any) -> list[Placed]:
        """One call of each of these carriers, evenly `within` seconds; when all are over, what became of them."""

        async def one(carrier: str, wait: float) -> CallReport:
            await asyncio.sleep(wait)
            return await place_call(self.plan(carrier, seconds, **changes))

        apart = within / max(1, len(carriers))
        reports = await asyncio.gather(*(one(carrier, i * apart) for i, carrier in enumerate(carriers)))
        notes: dict[str, list[dict[str, Any]]] = {}
        for note in self.notes():
            notes.setdefault(note["call"], []).append(note)
        return [Placed(report, notes.get(call_id(report), [])) for report in reports]

    def start(self, *carriers: str, seconds: float, **changes: Any) -> asyncio.Task[list[Placed]]:
        """The same, in the background."""
        return asyncio.ensure_future(self.place(*carriers, seconds=seconds, **changes))

    def notes(self) -> list[dict[str, Any]]:
        """All that the bots have noted."""
        return notes_of(self.bot)

    def forget_notes(self) -> None:
        """What was noted so far is of no interest any more."""
        self.notes_file.unlink(missing_ok=True)

    async def noted(self, what: str, count: int, seconds: float = 15.0) -> None:
        """Wait until the bots have noted this so often."""
        await until(
            lambda: sum(note["what"] == what for note in self.notes()) >= count,
            seconds,
            lambda: f"no {count} of {what!r}: {Counter(note['what'] for note in self.notes())}",
        )

    async def talking(self, count: int, seconds: float = 15.0) -> None:
        """Wait until so many bots have calls."""

        await until(
            lambda: len(self.busy()) >= count,
            seconds,
            lambda: f"no {count} bots that talk: {Counter(note['what'] for note in self.notes())}",
        )

    def busy(self) -> list[int]:
        """The pids of the workers that have a call, in the order in which they got it."""
        notes = self.notes()
        ended = {note["pid"] for note in notes if note["what"] == "end"}
        started = dict.fromkeys(note["pid"] for note in notes if note["what"] == "start")
        return [pid for pid in started if pid not in ended and is_marked(pid, self.mark)]

    def signal_workers(self, number: signal.Signals, share: float = 1.0) -> list[int]:
        """The signal to this share of the workers that have a call; their pids."""
        busy = self.busy()
        meant = busy[: round(share * len(busy))]
        for pid in meant:
            os.kill(pid, number)
        return meant

    def kill_workers(self, share: float = 1.0) -> list[int]:
        """SIGKILL to this share of the workers that have a call; their pids."""
        return self.signal_workers(signal.SIGKILL, share)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """New connections go to this gateway."""
        before, self.balancer.preferred = self.balancer.preferred, name
        try:
            yield
        finally:
            self.balancer.preferred = before

    def stop(self, name: str) -> None:
        """SIGSTOP to a gateway."""
        self.gateways[name].signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self.gateways[name].signal(signal.SIGCONT)


def call_id(report: CallReport) -> str:
    return report.streams[0].wire.carrier.call_id if report.streams else ""


def _registered(gateway: Process) -> int:
    return sum(str(record.get("event", "")).startswith("worker host registered") for record in gateway.records())
