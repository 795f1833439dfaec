"""The hosts' processes: real ones, whose gateway is in this process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import UserError
from gateway.protocol import pcm
from gateway.secrecy import INSPECTABLE_VARIABLE
from gateway.serve import local_hosts
from gateway.serve.local_hosts import HostProcesses
from gateway.settings import ServiceSettings, Settings
from tests.kit.fake_gateway import KEY, FakeGateway
from tests.kit.proc import descendants
from tests.kit.waiting import PATIENCE, until

CapFd = pytest.CaptureFixture[str]
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
    before = len(os.listdir("/proc/self/fd"))
    with capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(tmp_path / "python"))
        processes = start(ECHO)
        await until(lambda: len(logs) == 2)
    assert len(os.listdir("/proc/self/fd")) == before + 2, "one pipe for all starts"
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
    await until(lambda: len(gateway.registers) == 2)
    first, second = gateway.registers
    assert first.host == second.host and first.epoch < second.epoch


async def test_a_host_whose_gateway_was_killed_keeps_its_calls_and_takes_no_more(
    gateway: FakeGateway, start: Start, tmp_path: Path
) -> None:
    """A gateway that is started again has a host of its own: with both, `max` would count twice."""
    processes = start(ECHO)
    worker = await gateway.ready_worker()
    link = (await gateway.link(worker)).start()
    await link.echoes()
    await gateway.ready_besides(worker)
    host = processes._processes["a.b"]
    processes.let_end()
    processes._close()  # as the kernel does when this process is killed
    await until(lambda: gateway.drained and not gateway.ready())
    await link.echoes()
    assert host.returncode is None
    link.tell(pcm.Stop("caller_hangup"))
    assert await link.end() == 1000
    assert await host.wait() == 0


async def test_a_bot_that_cannot_be_used_is_said_with_its_service(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    processes = start(str(tmp_path / "broken.py"))
    await until(processes.failure.done)
    said = str(processes.failure.result())
    assert said.startswith("services.a.b.bot: ") and said.endswith(
        "ZeroDivisionError: division by zero (broken.py, line 1)"
    )


async def test_an_interpreter_that_cannot_be_used_is_said_with_its_setting(tmp_path: Path) -> None:
    section = ServiceSettings(host="a.b", bot=ECHO, python=str(tmp_path / "python"))
    processes = HostProcesses(Settings(services=(section,)), ("127.0.0.1", 9), KEY)
    processes.start()
    await until(processes.failure.done)
    said = str(processes.failure.result())
    assert said.startswith(f"services.a.b.python: {tmp_path}/python: cannot be run: No such file or directory")
    await processes.stop()


async def test_what_bots_print_needs_no_gateway_to_be_passed_on(
    gateway: FakeGateway, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a pipe of the gateway's, what a bot prints after the gateway's death would raise in it."""
    monkeypatch.setenv(INSPECTABLE_VARIABLE, "1")
    before = descendants(os.getpid())  # of tests that share a process for longer
    start(ECHO)
    await gateway.ready_worker()
    below = set(descendants(os.getpid())) - set(before)
    assert len(below) >= 3  # the host, its fork server, the worker
    assert {os.readlink(f"/proc/{pid}/fd/2") for pid in below} == {os.readlink("/proc/self/fd/2")}


async def test_what_no_host_can_be_is_said_before_one_is_started() -> None:
    section = ServiceSettings(host="a.b", bot=ECHO).model_copy(update={"max": 5000})  # past what the settings refuse
    with pytest.raises(UserError, match="max is 5000, not between 1 and 4000"):
        HostProcesses(Settings(services=(section,)), ("127.0.0.1", 1), KEY)


BOT = """
from gateway.worker import Audio, Call

async def bot(call: Call):
    assert call.data.from_number
    async for event in call:
        if isinstance(event, Audio):
            await call.play(event.pcm, sample_rate=8000)
"""


@pytest.mark.parametrize(
    "name", ["gateway.py", "gateway/__init__.py", "gateway/api.py", "serializers.py", "serializers/__init__.py"]
)
async def test_a_project_with_a_module_of_our_name_has_its_bot_run(
    gateway: FakeGateway, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, capfd: CapFd
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise RuntimeError('this is not the gateway')")
    (tmp_path / "bot.py").write_text(BOT)
    monkeypatch.chdir(tmp_path)
    start("bot.py")
    link = (await gateway.link(await gateway.ready_worker())).start()
    link.socket.send(b"\x00\x10" * 320)  # no silence: of that a bot misses what comes before it listens
    await link.until(lambda: any(isinstance(m, bytes) for m in link.said))
    link.tell(pcm.Stop("caller_hangup"))
    assert await link.end() == 1000
    hidden = tmp_path / name if name.count("/") == 0 else (tmp_path / name).parent
    said = capfd.readouterr().err
    assert said.count(f"{hidden}: `import {hidden.stem}` finds the gateway's own package of that name first") == 1
    assert "Traceback" not in said and "exception" not in said


async def test_a_bot_that_needs_a_hidden_module_is_told_which(start: Start, tmp_path: Path) -> None:
    (tmp_path / "serializers.py").write_text("class OrderSerializer: pass")
    (tmp_path / "bot.py").write_text("from serializers import OrderSerializer\n" + BOT)
    processes = start(str(tmp_path / "bot.py"))
    await until(processes.failure.done)
    said = str(processes.failure.result())
    assert "cannot import name 'OrderSerializer'" in said and f"{tmp_path}/serializers.py: `import seri" in said
    assert "rename it" in said and "\n" not in said


async def test_hosts_that_never_reached_their_gateway_end_with_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n" + BOT)
    section = ServiceSettings(host="a.b", bot=str(tmp_path / "slow.py"), min_warm=1)
    processes = HostProcesses(Settings(services=(section,)), ("127.0.0.1", 9), KEY)
    before = len(descendants(os.getpid()))
    processes.start()
    await until(lambda: len(descendants(os.getpid())) >= before + 2)
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE):  # its import takes ten minutes
            await processes.stop()
    assert logs == []
