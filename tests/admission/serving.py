"""`gateway serve` with its real worker host, fork server and workers, seen and hurt from outside."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.carriers import Answer, Call, Phone, Twilio
from tests.acceptance.program import Gateway, service, settings
from tests.kit.bots import notes_of
from tests.kit.proc import alive, children
from tests.kit.waiting import PATIENCE, SECONDS, until

SERVICE = "obedient.acme"
SLOT = re.compile(r'gateway_worker_slots\{service_host="([^"]+)",state="(\w+)"\} ([\d.]+)')


def config(*services: str, top: str = "", server: str = "", more: str = "") -> str:
    """Of the acceptance tests, with further lines at the top, in `[server]` and at the end."""
    text = settings(*services) + more
    return f"{top}\n" + text.replace("[server]\n", f"[server]\n{server}\n")


def obedient(bot: Path, **values: Any) -> str:
    return service(SERVICE, bot, **({"default": True, "min_warm": 2, "max": 5} | values))


class Serving:
    """One gateway, its pool, and its callers. ops: a client of its metrics and health."""

    def __init__(self, gateway: Gateway, bot: Path, service_host: str = SERVICE) -> None:
        self.gateway = gateway
        self.bot = bot
        self.service_host = service_host
        self.carrier = Twilio(gateway.url)
        self.ops = httpx.AsyncClient(base_url=gateway.log("metrics and health")["ops"], timeout=PATIENCE)

    # What there is.

    async def slots(self) -> dict[str, int]:
        """Of the pool, as /metrics has them: cap, used, ready, starting, busy, queued."""
        text = (await self.ops.get("/metrics")).text
        return {state: int(float(n)) for host, state, n in SLOT.findall(text) if host == self.service_host}

    async def is_ready(self) -> bool:
        return (await self.ops.get("/readyz")).status_code == 200

    @property
    def host(self) -> int:
        """The worker host's pid."""
        [pid] = children(self.gateway.process.pid)
        return pid

    @property
    def fork_server(self) -> int:
        [pid] = children(self.host)
        return pid

    def workers(self) -> set[int]:
        return set(children(self.fork_server))

    def idle(self) -> set[int]:
        """Workers that have no call."""
        ended = {(one["call"], one["pid"]) for one in self.notes("end")}
        return self.workers() - {one["pid"] for one in self.notes("start") if (one["call"], one["pid"]) not in ended}

    def notes(self, what: str, call: Call | None = None) -> list[dict[str, Any]]:
        """What bots noted down."""
        ours = [one for one in notes_of(self.bot) if one["what"] == what]
        return [one for one in ours if call is None or one["call"] == call.id]

    def pid_of(self, call: Call) -> int:
        """The worker that serves this call now."""
        return int(self.notes("start", call)[-1]["pid"])

    async def until_log(self, event: str, seconds: float = SECONDS, nth: int = 1) -> dict[str, Any]:
        """The nth log record whose event contains this."""
        return await asyncio.to_thread(self.gateway.log, event, timeout=seconds, nth=nth)

    async def until_whole(self, warm: int, seconds: float = SECONDS) -> None:
        """The pool is as it was: `warm` ready (or more), nobody served, nobody waiting."""
        seen: dict[str, int] = {}

        async def whole() -> bool:
            seen.update(await self.slots())
            return seen["ready"] >= warm and seen["used"] == seen["queued"] == seen["busy"] == 0

        await until(whole, seconds, lambda: f"the pool is not whole: {seen}\n{self.gateway.text()[-3000:]}")
        assert await self.is_ready()

    # Calls.

    async def ring(self, query: str = "") -> tuple[Call, Answer]:
        call = self.carrier.new_call()
        return call, await self.carrier.voice(call, query)

    async def _ring_through(self, query: str) -> tuple[Call, Answer] | None:
        call, answer = await self.ring(query)
        return (call, answer) if answer.stream else None

    @contextlib.asynccontextmanager
    async def talking(self, query: str = "", *, again: bool = False) -> AsyncIterator[tuple[Call, Phone]]:
        """A call that has heard its own echo. again: who is told busy, as the one before him has not quite left or the
        machine does too much, calls again.
        """
        call, answer = await self.ring(query)
        if again and not answer.stream:
            call, answer = await until(lambda: self._ring_through(query))
        assert answer.stream, answer.response.text
        async with self.carrier.phone(call, answer) as phone:
            await phone.hears_echo("at first", 0.1)
            yield call, phone

    async def short_call(self) -> int:
        """One call from the webhook to its hang-up; the pid that served it."""
        async with self.talking(again=True) as (call, phone):
            await phone.hang_up()
        starts = self.notes("start", call)
        assert [one["resumed"] for one in starts] == [False], f"its first worker was of no use: {starts}"
        return self.pid_of(call)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, text: str, bot: Path, *arguments: str, service_host: str = SERVICE, tracebacks: bool = False
) -> AsyncIterator[Serving]:
    """Serve until the end of the `with`; whatever it started is gone then. tracebacks: a bot's, which are expected."""
    with Gateway.of(folder, text, *arguments) as gateway:
        served = Serving(gateway, bot, service_host)
        family = {pid for child in children(gateway.process.pid) for pid in (child, *children(child))}
        async with served.ops:
            yield served
        if gateway.alive():
            gateway.terminate()
            await asyncio.to_thread(gateway.wait)
        if not tracebacks:
            gateway.assert_clean()
    for pid in family:
        assert not alive(pid), f"process {pid} is left behind"
