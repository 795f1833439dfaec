"""`gateway serve` as a process: what it refuses in one line, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.__main__ import main
from gateway.records.database import BUSY_SECONDS
from gateway.simulator import CallPlan, place_call
from gateway.simulator.exotel import ExotelAccount
from tests.acceptance.program import EXOTEL_SECRET, Gateway, Program, run, service, settings
from tests.kit.bots import place_bot
from tests.kit.waiting import PATIENCE, until

ECHO = "gateway.worker.echo:bot"
DEV = ("serve", "--dev", "--port", "0")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def config(folder: Path, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(text)
    return str(path)


def ops(gateway: Gateway) -> str:
    return gateway.log("metrics and health")["ops"]


# What is refused, in one line.


@pytest.fixture
def refused(capsys, monkeypatch):
    """Runs the command in this process, as far as it comes: asserts one line with these words, and its status."""
    for name in tuple(os.environ):
        if name.startswith(("GATEWAY_", "TWILIO_", "TELNYX_", "PLIVO_", "EXOTEL_")):
            monkeypatch.delenv(name)

    def run_it(arguments: tuple[str, ...], *words: str, status: int = 2) -> None:
        assert main(arguments) == status
        assert_one_line(capsys.readouterr().err, *words)

    return run_it


def assert_one_line(stderr: str, *words: str) -> None:
    [line] = stderr.splitlines()
    assert line.startswith("gateway serve: ")
    assert [word for word in words if word not in line] == [], line


def test_a_port_that_is_taken(refused, taken):
    refused(("serve", "--dev", "--port", str(taken)), "--host/--port", str(taken), "in use", status=1)


def test_dev_for_all_the_world(refused):
    refused(("serve", "--dev", "--host", "0.0.0.0"), "--dev", "loopback")


def test_nothing_configured(refused):
    refused(("serve",), "--config", "--dev")


@pytest.mark.parametrize("bot", ["absent.py", "absent.module", "absent.module:bot"])
def test_a_bot_that_is_not_there(refused, bot):
    refused((*DEV, "--bot", bot), "--bot", "there is no such")


def test_a_bot_of_the_settings_that_is_not_there(refused, tmp_path):
    file = config(tmp_path, settings('host = "a.b"\nbot = "absent.py"'))
    refused(("serve", "--config", file, "--port", "0"), "services.a.b.bot", "absent.py")


def test_an_ops_port_that_is_taken(taken):
    result = run(*DEV, env={"GATEWAY_SERVER__OPS_BIND": f"127.0.0.1:{taken}"})
    assert result.returncode == 1
    assert_one_line(result.stderr, "server.ops_bind", str(taken), "in use", "port 0")


def test_a_configuration_without_a_public_url_on_a_public_address(refused, tmp_path):
    file = config(tmp_path, 'secret = "0123456789abcdef"\n')
    refused(("serve", "--config", file, "--host", "0.0.0.0", "--port", "0"), "public_url", "missing")


def test_a_bot_that_cannot_be_imported(tmp_path):
    bot = tmp_path / "broken.py"
    bot.write_text("import a_module_that_is_not_there\n")
    result = run(*DEV, "--bot", str(bot))
    assert result.returncode == 2
    [ours] = [line for line in result.stderr.splitlines() if line.startswith("gateway serve: ")]
    assert result.stderr.endswith(ours + "\n")
    assert "No module named 'a_module_that_is_not_there' (broken.py, line 1)" in ours


# Serving.


def test_two_gateways_in_dev_do_beside_each_other():
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # somebody has it already: as well
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 9090))
            sock.listen()
        gateway = stack.enter_context(Gateway("--dev", "--port", "0"))
        assert not ops(gateway).endswith(":9090")
        assert httpx.get(ops(gateway) + "/readyz").status_code == 200


def test_without_an_ops_address_there_is_none(tmp_path):
    text = settings(f'host = "a.b"\nbot = "{ECHO}"').replace('"127.0.0.1:0"', '""')
    with Gateway.of(tmp_path, text) as gateway:
        assert not [record for record in gateway.records() if "ops" in record]
        assert httpx.get(f"{gateway.url}/readyz").status_code == 200
        gateway.terminate()
        assert gateway.wait() == 0


def test_it_is_ready_when_the_tables_of_its_records_are_made(tmp_path):
    database = tmp_path / "gateway.db"
    text = settings(f'host = "a.b"\nbot = "{ECHO}"').replace(
        'records = ""', f'records = "sqlite+aiosqlite:///{database}"'
    )
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")  # the migrations wait for this as for another gateway's
        began = time.monotonic()
        with Program("serve", "--config", config(tmp_path, text), "--dev", "--port", "0") as gateway:
            url = gateway.log("metrics and health", timeout=20)["ops"]
            warm = 'gateway_worker_slots{service_host="a.b",state="ready"} 1.0'
            while time.monotonic() < began + 0.8 * BUSY_SECONDS:  # after that the database would count as away
                if warm in httpx.get(f"{url}/metrics").text:
                    assert httpx.get(f"{url}/readyz").status_code == 503
                time.sleep(0.1)
            other.execute("COMMIT")
            gateway.log("ready", timeout=20)
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert other.execute("SELECT count(*) FROM calls").fetchone() == (0,)


def test_a_database_that_is_away_keeps_no_gateway_from_being_ready(tmp_path):
    away = 'records = "postgresql+asyncpg://nobody:nothing@127.0.0.1:9/calls"'
    text = settings(f'host = "a.b"\nbot = "{ECHO}"').replace('records = ""', away)
    with Gateway.of(tmp_path, text, "--dev") as gateway:
        assert gateway.log("the database of records is away")
        assert httpx.get(f"{gateway.url}/readyz").status_code == 200


@pytest.mark.parametrize(("seconds", "closed"), [("1", True), ("620", False)])
def test_idle_connections_are_kept_as_long_as_the_settings_say(seconds, closed):
    with (
        Gateway(*DEV[1:], env={"GATEWAY_SERVER__KEEP_ALIVE_SECONDS": seconds}) as gateway,
        socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=PATIENCE) as balancer,
    ):
        balancer.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while not answer.endswith(b"alive\n"):
            answer += balancer.recv(4096)
        if closed:
            assert balancer.recv(4096) == b""
        else:
            balancer.settimeout(3)
            with pytest.raises(TimeoutError):
                balancer.recv(4096)


def test_the_first_signal_drains_and_cuts_no_call_short(tmp_path):
    text = settings(service("a.b", place_bot("echo", tmp_path), default=True))
    with Gateway.of(tmp_path, text) as gateway:
        where = ops(gateway)
        assert httpx.get(f"{where}/readyz").status_code == 200

        async def call_while_draining():
            calling = asyncio.create_task(place_call(plan(gateway, seconds=1.5)))
            async with httpx.AsyncClient(base_url=where) as client:

                async def talking() -> bool:
                    return "gateway_calls_active{" in (await client.get("/metrics")).text

                async def unready() -> bool:
                    return (await client.get("/readyz")).status_code == 503

                await until(talking)
                gateway.terminate()
                await until(unready)
                assert (await client.get("/lbz")).status_code == 404
                assert (await client.get("/livez")).status_code == 200
                assert (await client.get(f"{gateway.url}/lbz")).status_code == 404
            return await calling

        report = asyncio.run(call_while_draining())
        assert (report.outcome, report.violations) == ("completed", [])
        assert gateway.wait() == 0
        assert gateway.log("draining")["calls"] == 1
        gateway.assert_clean()


def test_at_the_deadline_of_the_drain_what_is_left_is_ended_in_good_order(tmp_path):
    text = settings(service("a.b", place_bot("echo", tmp_path), default=True))
    text = text.replace("[server]\n", "[server]\ndrain_seconds = 0.3\n")
    with Gateway.of(tmp_path, text) as gateway:

        async def call():
            calling = asyncio.create_task(place_call(plan(gateway, seconds=30)))
            await asyncio.to_thread(gateway.log, "bot joined")
            gateway.terminate()
            return await calling

        asyncio.run(call())
        assert gateway.wait() == 0
        assert gateway.log("session ended")["reason"] == "drained"


def test_the_second_signal_does_not_wait(tmp_path):
    text = settings(service("a.b", place_bot("echo", tmp_path), default=True))
    with Gateway.of(tmp_path, text) as gateway:

        async def call():
            calling = asyncio.create_task(place_call(plan(gateway, seconds=30)))
            await asyncio.to_thread(gateway.log, "bot joined")
            gateway.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(gateway.log, "draining")
            gateway.process.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(gateway.wait)
            calling.cancel()
            return status

        assert asyncio.run(call()) == 0
        assert gateway.log("stopping now")["signal"] == "SIGTERM"


def plan(gateway: Gateway, *, seconds: float) -> CallPlan:
    """Of Exotel, whose requests need no more than a key."""
    return CallPlan(
        carrier="exotel",
        base_url=gateway.url,
        audio=np.zeros(4000, np.int16),
        credentials={"exotel": ExotelAccount("exotel1", EXOTEL_SECRET)},
        seconds=seconds,
        linger=0.2,
    )
