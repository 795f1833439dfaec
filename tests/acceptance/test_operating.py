"""What an operator sees: health, drain, exit codes, metrics; and that ready means ready."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.acceptance.carriers import CARRIERS, NAMES, http
from tests.acceptance.program import Gateway, run, service, settings
from tests.kit.bots import notes_of, place_bot
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def config(echo_bot: Path) -> str:
    return settings(service("echo.acme", echo_bot, default=True, min_warm=2))


async def status_of(gateway: Gateway, path: str) -> int:
    async with http() as client:
        return (await client.get(f"{gateway.url}{path}")).status_code


async def test_health(config: str, folder: Path) -> None:
    begin = time.monotonic()
    with Gateway.of(folder, config) as gateway:
        print(f"ready after {time.monotonic() - begin:.2f} s")
        for path in ("/livez", "/readyz", "/lbz", "/status"):
            assert await status_of(gateway, path) == 200, path
        async with http() as client:
            status = (await client.get(f"{gateway.url}/status")).json()
            assert status["status"] == "ready"
            assert sorted(status["transports"]) == sorted(NAMES)
            assert (await client.get(f"{gateway.url}/metrics")).status_code == 404, "on the public port"
            for path in ("/", "/favicon.ico", "/ws/nobody", "/webhooks", "/webhooks/twilio", "/v1/workers/connect"):
                assert (await client.get(f"{gateway.url}{path}")).status_code in (401, 403, 404, 405, 426), path
        gateway.assert_clean()
        gateway.terminate()
        assert gateway.wait() == 0, "".join(gateway.lines)


async def test_every_log_line_is_json(config: str, folder: Path) -> None:
    """Away from a terminal, the worker hosts' lines too."""
    with Gateway.of(folder, config) as gateway:
        gateway.terminate()
        gateway.wait()
    plain = [line for line in gateway.lines if not line.startswith("{")]
    assert not plain, plain


async def test_sigterm_drains(config: str, folder: Path, echo_bot: Path) -> None:
    """The running call is not cut; no new ones; when it is over, exit 0."""
    with Gateway.of(folder, config) as gateway:
        carriers = [CARRIERS[name](gateway.url) for name in NAMES]

        async def call_through(index: int, draining: asyncio.Event, settled: asyncio.Event) -> None:
            carrier = carriers[index]
            call = carrier.new_call()
            answer = await carrier.voice(call)
            async with carrier.phone(call, answer) as phone:
                await phone.hears_echo("before the drain", 0.2)
                await draining.wait()
                await phone.hears_echo("while it drains", 0.4)
                await settled.wait()
                await phone.hears_echo("after the checks", 0.2)
                await phone.hang_up()

        draining, settled = asyncio.Event(), asyncio.Event()
        calls = [asyncio.create_task(call_through(index, draining, settled)) for index in range(len(carriers))]
        await asyncio.sleep(1)
        gateway.terminate()
        gateway.log("drain")
        draining.set()
        await asyncio.sleep(1.2)
        assert gateway.alive(), "".join(gateway.lines)
        assert await status_of(gateway, "/livez") == 200
        assert await status_of(gateway, "/lbz") == 404
        assert await status_of(gateway, "/readyz") == 503
        settled.set()
        await asyncio.gather(*calls)
        assert gateway.wait() == 0, "".join(gateway.lines)
    gateway.assert_clean()


async def test_second_sigterm_forces(config: str, folder: Path) -> None:
    with Gateway.of(folder, config) as gateway:
        carrier = CARRIERS["twilio"](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        async with carrier.phone(call, answer) as phone:
            await phone.hears_echo("first", 0.2)
            gateway.terminate()
            gateway.log("drain")
            await asyncio.sleep(0.2)
            assert gateway.alive()
            begin = time.monotonic()
            gateway.terminate()
            await asyncio.to_thread(gateway.wait)
            print(f"ended {time.monotonic() - begin:.2f} s after the second SIGTERM")
    gateway.assert_clean()


async def test_sigint_is_a_stop_too(config: str, folder: Path) -> None:
    with Gateway.of(folder, config) as gateway:
        gateway.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(gateway.wait) == 0


async def test_an_unused_claim_does_not_hold_the_exit(config: str, folder: Path) -> None:
    """A webhook whose stream never comes is no running call."""
    with Gateway.of(folder, config) as gateway:
        carrier = CARRIERS["twilio"](gateway.url)
        assert (await carrier.voice(carrier.new_call())).stream
        gateway.terminate()
        assert await asyncio.to_thread(gateway.wait) == 0  # the claim would last for thirty seconds


async def test_ready_is_ready_without_warm_workers(folder: Path, echo_bot: Path) -> None:
    """``min_warm = 0``: the first call after ``ready`` starts its worker, and is not turned away."""
    with Gateway.of(folder, settings(service("echo.acme", echo_bot, default=True, min_warm=0))) as gateway:
        carrier = CARRIERS["twilio"](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        assert answer.stream, (answer.response.text, gateway.lines)
        async with carrier.phone(call, answer) as phone:
            await phone.hears_echo("of a cold start", 0.4)


async def test_no_bot_is_left_behind(config: str, folder: Path) -> None:
    """After a clean exit none of the processes it started lives on."""
    bot = place_bot("echo", folder)
    with Gateway.of(folder, settings(service("left.acme", bot, default=True, min_warm=3))) as gateway:
        carrier = CARRIERS["plivo"](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        async with carrier.phone(call, answer) as phone:
            await phone.hears_echo("first", 0.2)
            await phone.hang_up()
        gateway.terminate()
        assert await asyncio.to_thread(gateway.wait) == 0
    (pid,) = {one["pid"] for one in notes_of(bot) if one["call"] == call.id}
    await until(lambda: not Path(f"/proc/{pid}").exists(), complain="the end of the bot's process, after a clean exit")


def test_dev_needs_no_credentials(tmp_path: Path) -> None:
    """Unsigned and welcome, on loopback only."""
    with Gateway("--dev", "--port", "0") as gateway:
        form = {
            "CallSid": "CA1",
            "AccountSid": "AC1",
            "From": "+15550100002",
            "To": "+15550100004",
            "CallStatus": "ringing",
        }
        response = httpx.post(f"{gateway.url}/webhooks/twilio/voice", data=form)
        assert response.status_code == 200
        assert "<Stream" in response.text
        gateway.terminate()
        assert gateway.wait() == 0


def test_help_is_quick() -> None:
    begin = time.monotonic()
    result = run("--help")
    print(f"--help took {time.monotonic() - begin:.2f} s")
    assert result.returncode == 0


def test_wrong_command() -> None:
    assert run("fly").returncode == 2
    assert run("serve", "--port", "many").returncode == 2
