"""`gateway simulate-carriers`: what it prints, and that what it prints works."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import tomllib
import wave
from pathlib import Path

import httpx
import pytest

from gateway.__main__ import main
from gateway.cli import simulate_carriers
from gateway.settings import load
from gateway.simulator.rest import SimulatedCarriers
from gateway.simulator.rest.plan import table
from tests.kit.waiting import until

from ..simulator.rest.calls import QUICK
from ..simulator.rest.test_server import order
from ..simulator.scripted_gateway import ScriptedGateway


def test_the_help_has_the_table_of_numbers() -> None:
    assert table() in (simulate_carriers.__doc__ or "")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("mine")
    assert main(["simulate-carriers", "--write", str(file)]) == 2
    said = capsys.readouterr().err
    assert said == f"gateway simulate-carriers: --write: {file} is there already: name a new file, or remove it\n"
    assert file.read_text() == "mine"


async def test_what_was_heard_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watcher = simulate_carriers._Watcher(tmp_path)
    async with ScriptedGateway() as gateway, SimulatedCarriers(plan=QUICK, told=watcher.told) as carriers:
        await order(carriers, "plivo", f"{gateway.url}/webhooks/plivo/voice", "+15550190001")
        await until(lambda: carriers.calls and carriers.calls[0].report.frames_received >= 5)
        carriers.calls[0].end("callee")
        await until(lambda: "what they heard" in capsys.readouterr().out)
    with wave.open(str(tmp_path / "001-plivo-15550190001.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels()) == (8000, 1) and wav.getnframes() >= 400


async def test_what_it_prints_leads_to_a_call(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "gateway", "simulate-carriers", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = (await process.stdout.readuntil(b"Any number")).decode()
    pasted = said[said.index("[carriers.twilio]") : said.index("Any number")]
    settings = tomllib.loads(pasted)
    file = tmp_path / "gateway.toml"
    file.write_text(pasted)
    assert set(load(str(file), {}).carriers) == {"twilio", "telnyx", "plivo", "exotel"}
    twilio = settings["carriers"]["twilio"]
    async with ScriptedGateway() as gateway, httpx.AsyncClient() as client:
        answer = await client.post(
            f"{twilio['api_url']}/2010-04-01/Accounts/{twilio['account_sid']}/Calls.json",
            data={"To": "+15550000110", "From": "+15550100", "Url": gateway.url},
            auth=(twilio["account_sid"], twilio["auth_token"]),
        )
    assert answer.status_code == 201
    steps = (await process.stdout.readuntil(b"busy,")).decode()
    assert re.findall(r"^twilio  \+15550000110    (\w+)", steps, re.M) == ["initiated", "ringing", "busy"]
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
