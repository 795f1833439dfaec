"""Real Pipecat bots in real processes, and the simulated carriers: before the bot itself, or before our gateway.

carriers → Pipecat's runner                                    "runner": how it is without us
carriers → gateway → Pipecat's runner, or its cloud's image    "behind", "image": static workers
carriers → gateway → forked workers                            "forked": `bot =`
                                                               "pcm": the same, with the gateway's transport
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sys
import wave
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from gateway.audio.files import convert, read_wav
from gateway.simulator import CALLER_RATE, CallPlan, CallReport, Credentials, Faults, place_call
from gateway.simulator.rest import SimulatedCarriers
from tests.acceptance.program import SECRET, Gateway, free_port
from tests.kit.processes import Process
from tests.kit.waiting import until

HERE = Path(__file__).parent
CARRIERS = ("twilio", "telnyx", "plivo", "exotel")
STYLES = ("with_transport", "by_hand")
WAYS = ("runner", "behind", "image", "forked")
PIPECATS_IMPORT = "from pipecat.runner.utils import create_transport\n"
OUR_IMPORT = "from gateway.worker.pipecat import create_transport\n"
"""The one line that is changed for the "pcm" way."""
SERVICE = "echo.acme"
OURS = "+15550100000"
API_KEY = "api-key-of-the-pipecat-tests"
SPEECH = HERE.parents[1] / "fixtures" / "speech.wav"
READY = 60.0
"""Seconds until a process with Pipecat in it is ready, at most: four of them import it at once."""

APART = 0.7
"""Seconds between two calls: each bot loads a model as it begins, and if that takes long all its echo is late."""


def speech(seconds: float) -> np.ndarray:
    """The caller's words."""
    pcm, rate = read_wav(SPEECH)
    said = convert(pcm, rate, CALLER_RATE)
    return np.resize(said, round(seconds * CALLER_RATE))


def hum(seconds: float) -> np.ndarray:
    """A caller who is never silent: each gap in their echo is one that was made."""
    at = np.arange(round(seconds * CALLER_RATE))
    return np.rint(8000 * np.sin(2 * np.pi * 800 * at / CALLER_RATE)).astype(np.int16)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * CALLER_RATE), np.int16)


def place_bot(style: str, folder: Path, rest_url: str) -> Path:
    """Copy a bot and its stand-ins into a folder, as `bot.py`: what it notes down is there, too."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "bots" / "services.py", folder)
    (folder / "rest_url").write_text(rest_url)
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(convert(speech(4.0), CALLER_RATE, 16000).astype("<i2").tobytes())
    return Path(shutil.copy(HERE / "bots" / f"{style}.py", folder / "bot.py"))


def account_variables(accounts: Credentials) -> dict[str, str]:
    """The credentials by the names that Pipecat's own documents give them."""
    twilio, telnyx, plivo = (accounts[name].settings() for name in ("twilio", "telnyx", "plivo"))
    return {
        "TWILIO_ACCOUNT_SID": twilio["account_sid"],
        "TWILIO_AUTH_TOKEN": twilio["auth_token"],
        "TELNYX_API_KEY": telnyx.get("api_key", ""),
        "PLIVO_AUTH_ID": plivo["auth_id"],
        "PLIVO_AUTH_TOKEN": plivo["auth_token"],
    }


@dataclass
class Placed:
    """A call that is over: what its caller heard, and what its bot noted."""

    report: CallReport
    notes: list[dict[str, Any]]

    @property
    def start(self) -> dict[str, Any]:
        return next(note for note in self.notes if note["what"] == "start")

    def of(self, what: str) -> list[dict[str, Any]]:
        return [note for note in self.notes if note["what"] == what]

    @property
    def digits(self) -> str:
        return "".join(note["digit"] for note in self.of("dtmf"))

    def __str__(self) -> str:
        streams = [(log.ended_by, log.close_code, log.error, log.marks, log.cleared) for log in self.report.streams]
        http = [(x.method, x.path.partition("?")[0], x.status, x.error) for x in self.report.http]
        return f"{self.report.carrier}: {self.report.outcome}, {self.report.ended_by}; {streams}; {http}\n{self.notes}"


@dataclass
class Setting:
    """One way to run a bot. url: where the carriers' calls go. static: no webhook is asked."""

    way: str
    style: str
    folder: Path
    url: str
    rest: SimulatedCarriers
    static: bool = False
    gateway: Gateway | None = None
    ops: str = ""
    processes: list[Process] = field(default_factory=list)

    def notes(self) -> list[dict[str, Any]]:
        file = self.folder / "bot.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def notes_of(self, call_id: str) -> list[dict[str, Any]]:
        return [note for note in self.notes() if note["call"] == call_id]

    async def noted(self, call_id: str, what: str, seconds: float = 15.0) -> list[dict[str, Any]]:
        """Wait until the bot has noted this of a call; all that it has noted of it."""
        await until(
            lambda: any(note["what"] == what for note in self.notes_of(call_id)),
            seconds,
            lambda: f"no {what!r} of {call_id} in {self.notes()}; {self.log()[-4000:]}",
        )
        return self.notes_of(call_id)

    async def ready(self) -> None:
        """Wait until a worker is ready for a call of each carrier, and no earlier call holds a slot."""

        async def enough() -> bool:
            counted = await slots(self.ops)
            return counted["ready"] >= len(CARRIERS) and not counted["used"]

        if self.ops:
            await until(enough, READY, lambda: f"workers are not ready: {self.log()[-6000:]}")

    def log(self) -> str:
        return "\n".join([*(one.log() for one in self.processes), self.gateway.text() if self.gateway else ""])

    def plan(self, carrier: str, audio: np.ndarray, **more: Any) -> CallPlan:
        faults = more.pop("faults", Faults())
        if self.static:
            faults = Faults(stream_path="/ws", dtmf=faults.dtmf)
        return CallPlan(
            carrier=carrier, base_url=self.url, audio=audio, credentials=self.rest.accounts, faults=faults,
            to_number=OURS, **({"linger": 1.0} | more),
        )  # fmt: skip

    async def call(self, carrier: str, audio: np.ndarray, **more: Any) -> Placed:
        """Place one call; when it is over and its bot has noted that, what came of it."""
        report = await place_call(self.plan(carrier, audio, **more))
        assert report.opened, f"{carrier}: {report.outcome} {report.http}\n{self.log()[-6000:]}"
        return Placed(report, await self.noted(report.opened[0].wire.carrier.call_id, "end"))

    async def calls(self, audio: np.ndarray, **more: Any) -> dict[str, Placed]:
        """One call of each carrier, side by side."""
        await self.ready()

        async def one(number: int, carrier: str) -> Placed:
            await asyncio.sleep(APART * number)
            return await self.call(carrier, audio, **more)

        placed = await asyncio.gather(*(one(number, carrier) for number, carrier in enumerate(CARRIERS)))
        return dict(zip(CARRIERS, placed, strict=True))


def gateway_settings(rest: SimulatedCarriers, service: Mapping[str, Any], ops: str) -> str:
    values = {"host": SERVICE, "default": True, "wrapup_seconds": 5, "max_hold_seconds": 20} | dict(service)
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    return (
        f'secret = "{SECRET}"\nrecords = ""\n[server]\nops_bind = "{urlsplit(ops).netloc}"\noverload_lag_ms = 1000\n'
        f'[api]\nkeys = ["{API_KEY}"]\n[dialout]\nallow = ["+1"]\ncallers = ["{OURS}"]\ncps = 50\n'
        f"{rest.settings()}\n[[services]]\n{lines}\n"
    )


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def bot_servers(way: str, bot: Path, accounts: Credentials, count: int) -> Iterator[list[tuple[Process, int]]]:
    """So many processes that serve the bot by Pipecat's own means, or the image's; they listen some time later."""
    with ExitStack() as stack:
        found = []
        for number in range(count):
            port = free_port()
            command = (
                [sys.executable, str(HERE / "image.py"), str(bot.parent), str(port)]
                if way == "image"
                else [sys.executable, str(bot), "--port", str(port), "--host", "127.0.0.1"]
            )
            process = Process(f"{way}-{number}", bot.parent, command, account_variables(accounts))
            found.append((stack.enter_context(process), port))
        yield found


async def ready(servers: list[tuple[Process, int]]) -> None:
    for process, port in servers:
        await until(lambda: listens(port) or not process.alive, READY, f"{process.name} listens")  # noqa: B023
        assert process.alive, process.log()


class Behind:
    """A bot of one style, run in one way, until the end of the `async with`. service: further settings of ours."""

    def __init__(self, way: str, style: str, folder: Path, rest: SimulatedCarriers, **service: Any) -> None:
        self._way, self._style, self._folder, self._rest = way, style, folder, rest
        self._service = service
        self._stack = ExitStack()

    async def __aenter__(self) -> Setting:
        try:
            return await self._start()
        except BaseException:
            self._stack.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._stack.close()

    async def _start(self) -> Setting:
        bot = place_bot(self._style, self._folder, self._rest.url)
        if self._way == "pcm":
            assert bot.read_text().count(PIPECATS_IMPORT) == 1
            bot.write_text(bot.read_text().replace(PIPECATS_IMPORT, OUR_IMPORT))
        if self._way in ("forked", "pcm"):
            service = {"bot": str(bot), "min_warm": 4, "max": 8, **self._service}
            return await self._gateway(service, [])
        count = 1 if self._way == "runner" else len(CARRIERS)
        servers = self._stack.enter_context(bot_servers(self._way, bot, self._rest.accounts, count))
        await ready(servers)
        if self._way == "runner":
            (process, port) = servers[0]
            url = f"http://127.0.0.1:{port}"
            return Setting(self._way, self._style, self._folder, url, self._rest, static=True, processes=[process])
        workers = [f"ws://127.0.0.1:{port}/ws" for _, port in servers]
        service = {"workers": workers, "protocol": "relay", **self._service}
        return await self._gateway(service, [process for process, _ in servers])

    async def _gateway(self, service: dict[str, Any], processes: list[Process]) -> Setting:
        ops = f"http://127.0.0.1:{free_port()}"
        config = gateway_settings(self._rest, service, ops)
        gateway = await asyncio.to_thread(Gateway.of, self._folder, config, patience=READY)
        self._stack.enter_context(gateway)
        setting = Setting(self._way, self._style, self._folder, gateway.url, self._rest, gateway=gateway, ops=ops)
        setting.processes = processes
        await setting.ready()
        self._rest.gateway_url = self._rest.public_url = gateway.url
        return setting


async def slots(ops: str) -> dict[str, int]:
    """The service's slots, by the gateway's own count."""
    async with httpx.AsyncClient() as client:
        told = (await client.get(f"{ops}/metrics")).text
    found = re.findall(r'^gateway_worker_slots\{.*state="(\w+)".*\} (\S+)', told, re.M)
    return {state: int(float(count)) for state, count in found}


async def dial(setting: Setting, carrier: str, to: str, body: Mapping[str, Any]) -> str:
    """Let the gateway place a call; its id at the carrier."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    order = {"carrier": carrier, "to": to, "from": OURS, "body": body}
    async with httpx.AsyncClient(base_url=setting.url, headers=headers) as client:

        async def taken() -> httpx.Response | None:
            # a static worker that has served is offered again by the next look at it
            answer = await client.post("/v1/calls", json=order)
            return None if answer.status_code == 429 else answer

        answer = await until(taken)
        assert answer.status_code in (201, 202), answer.text
        path = f"/v1/calls/{answer.json()['session_id']}"

        async def placed() -> str:
            return (await client.get(path)).json().get("call_id") or ""

        return await until(placed, 15)
