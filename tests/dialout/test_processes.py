"""Two gateway processes on one Redis, and the simulated carriers' REST APIs: what is promised outlives a SIGKILL.

A gateway that has died is known by its leases, of 15 s, which no setting shortens.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.simulator.rest import Plan, SimulatedCarriers
from tests.acceptance.program import free_port
from tests.kit.bots import place_bot
from tests.kit.processes import MARK, PROGRAM, Process, kill_marked
from tests.kit.waiting import PATIENCE, until
from tests.pool.server import Server as Redis

pytestmark = pytest.mark.cluster

KEY = "an-api-key-of-the-tests"
OURS, TO = "+15550100", "+15550190001"
CALLS, CPS = 50, 10
AT_ONCE = 12
"""Requests that are under way at a time: a crowd would only wait for each other."""
GONE = 15.0
"""Seconds until what a dead gateway has had is taken over."""
UNHEARD = 75.0 + GONE
"""Seconds until a call is given up whose order was under way: it may ring."""
CONFIG = """
registry = "{redis}"
public_url = "{public_url}"
secret = "a secret of the tests"
records = ""

[server]
ops_bind = "127.0.0.1:0"
overload_lag_ms = 1000

[workers]
keys = ["{key}"]

[api]
keys = ["{key}"]

[dialout]
allow = ["+1555"]
callers = ["{ours}"]
cps = {cps}
max_concurrent = 60

[[services]]
host = "tone.acme"
default = true
"""


class Rig:
    """Gateways a and b; webhooks come to b."""

    def __init__(self, a: Process, b: Process, ports: tuple[int, int], carriers: SimulatedCarriers) -> None:
        self.a, self.b = a, b
        self.carriers = carriers
        headers = {"authorization": f"Bearer {KEY}"}
        self.http = [
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=40.0) for port in ports
        ]

    async def dial(self, node: int, to: str, key: str = "") -> httpx.Response:
        asked = {"carrier": "twilio", "to": to, "from": OURS}
        headers = {"idempotency-key": key} if key else {}
        return await self.http[node].post("/v1/calls", json=asked, headers=headers)

    async def call(self, session: str) -> dict[str, Any]:
        """What b says of a call."""
        answer = await self.http[1].get(f"/v1/calls/{session}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def over(self, session: str) -> dict[str, Any]:
        """The same, once it has ended."""
        call: dict[str, Any] = {}

        async def ended() -> bool:
            call.update(await self.call(session))
            return call["status"] == "ended"

        await until(ended, UNHEARD + PATIENCE, lambda: f"it has not ended: {call}")
        return call

    def dialled(self) -> Counter[str]:
        """The simulator's log, by number."""
        return Counter(call.to for call in self.carriers.calls)


@asynccontextmanager
async def rig(folder: Path, plan: Plan) -> AsyncIterator[Rig]:
    mark, ports, redis = secrets.token_hex(8), (free_port(), free_port()), Redis()
    env = {MARK: mark, "GATEWAY_WORKER_KEY": KEY}
    urls = [f"127.0.0.1:{port}" for port in ports]
    async with SimulatedCarriers(plan=plan) as carriers:
        config = folder / "gateway.toml"
        text = CONFIG.format(redis=redis.url, public_url=f"http://{urls[1]}", key=KEY, ours=OURS, cps=CPS)
        config.write_text(text + carriers.settings())
        serve = [*PROGRAM, "serve", "--config", str(config), "--port"]
        a, b = (Process(name, folder, [*serve, str(port)], env) for name, port in zip("ab", ports, strict=True))
        worker = [*PROGRAM, "worker", str(place_bot("tone", folder)), "--service-host", "tone.acme"]
        to = [word for url in urls for word in ("--gateway", f"ws://{url}")]
        host = Process("host", folder, [*worker, "--warm", "4", "--max", "40", *to], env)
        try:
            redis.start()
            for process in (a, b, host):
                process.start()
            for process in (a, b):
                await process.logged("ready")
                await process.logged("worker host registered")
            await asyncio.to_thread(carriers.load_signers)
            made = Rig(a, b, ports, carriers)
            yield made
            for http in made.http:
                await http.aclose()
        finally:
            kill_marked(mark)
            for process in (a, b, host):
                process.kill()
            redis.remove()


async def test_fifty_calls_of_which_a_gateway_dies_in_the_middle(tmp_path):
    async with rig(tmp_path, Plan(rings=0.3, delay=0.2, result="busy")) as made:
        numbers = [f"+155501{n:05}" for n in range(CALLS)]
        turns = asyncio.Semaphore(AT_ONCE)

        async def place(n: int) -> httpx.Response:
            async with turns:
                return await made.dial(n % 2, numbers[n])

        answers = await asyncio.gather(*(place(n) for n in range(CALLS)))
        assert {answer.status_code for answer in answers} <= {201, 202}, [answer.text for answer in answers]
        assert sum(answer.status_code == 202 for answer in answers) >= CALLS / 2, "most wait behind the rate"
        await until(lambda: len(made.carriers.calls) >= CALLS / 2, complain="half of them are dialled")
        made.a.kill()
        waiting = CALLS - len(made.carriers.calls)
        assert waiting >= 5, "it was in the middle"
        ends = await asyncio.gather(*(made.over(answer.json()["session_id"]) for answer in answers))
        counted = made.dialled()
        assert max(counted.values()) == 1, "none was dialled twice"
        for number, end in zip(numbers, ends, strict=True):
            reasons = ("busy",) if counted[number] else ("failed", "rejected")
            assert end["end_reason"] in reasons, (number, counted[number], end)
        assert len(counted) >= CALLS - 3, "but for what was under way, all were dialled"
        times = sorted(call.created_at for call in made.carriers.calls)
        assert times[-1] - times[0] >= (CALLS - 5) / CPS, "at the rate of the settings"


async def test_a_key_gives_the_first_answer_on_both_nodes_and_after_a_death(tmp_path):
    async with rig(tmp_path, Plan(rings=60.0, delay=0.3)) as made:
        answers = await asyncio.gather(*(made.dial(n % 2, TO, "at once") for n in range(6)))
        assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
        [first] = {answer.text for answer in answers}
        assert (await made.dial(0, TO, "at once")).text == (await made.dial(1, TO, "at once")).text == first
        assert made.dialled() == {TO: 1}

        other = "+15550190002"
        made.carriers.plans[other] = Plan(rings=60.0, create="unanswered")
        dying = asyncio.create_task(made.dial(0, other, "dies"))
        await until(lambda: made.dialled()[other], complain="the carrier has its order")
        made.a.kill()
        assert isinstance((await asyncio.gather(dying, return_exceptions=True))[0], httpx.HTTPError)
        answer = await made.dial(1, other, "dies")
        assert answer.status_code == 201, answer.text
        [call] = made.carriers.calls_to(other)
        assert answer.json()["session_id"] in call.order.fields["StatusCallback"]
        assert (await made.dial(1, other, "dies")).json()["session_id"] == answer.json()["session_id"]
        assert made.dialled() == {TO: 1, other: 1}


async def test_a_gateway_that_drains_answers_for_the_order_under_way(tmp_path):
    """Longer than the HTTP server waits for requests when it ends. It ends once the call has."""
    async with rig(tmp_path, Plan(rings=8.0, delay=6.0, result="busy")) as made:
        placing = asyncio.create_task(made.dial(0, TO))
        await until(lambda: made.dialled()[TO], complain="the carrier has the order")
        made.a.terminate()
        answer = await placing
        assert answer.status_code == 201 and answer.json()["call_id"], answer.text
        assert made.a.alive, "it rings"
        assert await made.a.ended() == 0
        assert (await made.call(answer.json()["session_id"]))["end_reason"] == "busy"
        assert made.dialled() == {TO: 1}
