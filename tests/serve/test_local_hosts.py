"""The hosts' processes: real ones, whose gateway is in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import UserError
from gateway.serve import local_hosts
from gateway.serve.local_hosts import HostProcesses
from gateway.settings import ServiceSettings, Settings
from tests.proc import descendants
from tests.waiting import until
from tests.worker.fake_gateway import KEY, FakeGateway

Start = Callable[[str], HostProcesses]
ECHO = "gateway.worker.echo:bot"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[FakeGateway]:
    fake = FakeGateway(tmp_path / "gw.sock")
    yield fake
    fake.die()


@pytest.fixture
async def start(gateway: FakeGateway) -> AsyncIterator[Start]:
    """Starts the one host of a service with this bot."""
    port = await gateway.open_tcp()
    made: list[HostProcesses] = []

    def start(bot: str) -> HostProcesses:
        settings = Settings(services=(ServiceSettings(host="a.b", bot=bot, min_warm=1),))
        made.append(HostProcesses(settings, ("127.0.0.1", port), KEY))
        made[-1].start()
        return made[-1]

    yield start
    gateway.leave()
    for processes in made:
        await processes.stop()


async def test_a_host_that_could_not_be_started_is_started_later(
    gateway: FakeGateway, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_hosts, "RESTART_AFTER", 0.05)
    before = sorted(os.listdir("/proc/self/fd"))
    with capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(tmp_path / "python"))
        processes = start(ECHO)
        await until(lambda: len(logs) == 2)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert [line["seconds"] for line in logs] == [0.05, 0.1]
    assert logs[0]["why"] == "it cannot be started: No such file or directory"
    await gateway.ready_worker()
    assert gateway.registers[0].host == processes.ids["a.b"]


async def test_a_host_that_dies_is_started_again(
    gateway: FakeGateway, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_hosts, "RESTART_AFTER", 0.05)
    processes = start(ECHO)
    await gateway.ready_worker()
    with capture_logs() as logs:
        processes._processes["a.b"].kill()
        await until(lambda: logs)
    assert (logs[0]["service"], logs[0]["status"]) == ("a.b", -9)
    await until(lambda: len(gateway.registers) == 2, 15)
    first, second = gateway.registers
    assert first.host == second.host and first.epoch < second.epoch


async def test_a_bot_that_cannot_be_used_is_said_with_its_service(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    processes = start(str(tmp_path / "broken.py"))
    await until(processes.failure.done, 15)
    said = str(processes.failure.result())
    assert said.startswith("services.a.b.bot: ") and said.endswith(
        "ZeroDivisionError: division by zero (broken.py, line 1)"
    )


async def test_what_bots_print_needs_no_gateway_to_be_passed_on(gateway: FakeGateway, start: Start) -> None:
    """Through a pipe of the gateway's, what a bot prints after the gateway's death would raise in it."""
    start(ECHO)
    await gateway.ready_worker()
    below = descendants(os.getpid())
    assert len(below) >= 3  # the host, its zygote, the worker
    assert {os.readlink(f"/proc/{pid}/fd/2") for pid in below} == {os.readlink("/proc/self/fd/2")}


async def test_what_no_host_can_be_is_said_before_one_is_started() -> None:
    section = ServiceSettings(host="a.b", bot=ECHO).model_copy(update={"max": 5000})  # past what the settings refuse
    with pytest.raises(UserError, match="max is 5000, not between 1 and 4000"):
        HostProcesses(Settings(services=(section,)), ("127.0.0.1", 1), KEY)
