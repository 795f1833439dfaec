"""The host with real processes and real signals. Each test has a gateway of its own, that is in this process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import BotError, LinkError, LinkRefused
from gateway.protocol import pcm, workers
from gateway.worker import registration
from gateway.worker.host import DRAIN_SIGNAL, run_host
from gateway.worker.options import FAILURE_FD_VARIABLE, OPTIONS_FD_VARIABLE, HostOptions
from tests.kit.fake_gateway import KEY, FakeGateway, Link
from tests.kit.proc import alive, descendants, kill, until_dead
from tests.kit.waiting import PATIENCE, SCALE, until

ECHO = "gateway.worker.echo"


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


_HAS_IPV6 = _has_ipv6()

BOT = """
import asyncio, os, sys
from gateway.worker import Audio, Call

def prewarm():
    if os.environ.get("TEST_PREWARM") == "exit": os._exit(3)
    if os.environ.get("TEST_PREWARM") == "raise": raise RuntimeError("no model")

async def bot(call: Call):
    call.save_state(str(os.getpid()).encode())
    match call.data["to"], call.session_id:
        case _, "raises": raise RuntimeError("private")
        case _, "stays": await asyncio.sleep(3600)
    async for event in call:
        if isinstance(event, Audio):
            await call.play(event.pcm)
"""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[FakeGateway]:
    fake = await FakeGateway(tmp_path / "gw.sock").open()
    yield fake
    fake.die()
    await asyncio.sleep(0)


@pytest.fixture
def bot(tmp_path: Path) -> str:
    (tmp_path / "mybot.py").write_text(BOT)
    return str(tmp_path / "mybot.py")


def options(gateway: FakeGateway, **changes: Any) -> HostOptions:
    fields = {"target": ECHO, "service_host": "a.b", "gateways": (gateway.url,), "key": KEY, "warm": 1, "max": 4}
    return HostOptions(**{**fields, "grace_seconds": 60.0, "run_dir": str(gateway.path.parent), **changes})


class HostProcess:
    """A host in a process of its own, as `gateway serve` starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid

    async def ended(self) -> tuple[int, str]:
        out, _ = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.process.returncode or 0, out.decode()


@contextlib.asynccontextmanager
async def host(given: HostOptions, **environment: str) -> AsyncIterator[HostProcess]:
    read, write = os.pipe()
    os.write(write, given.to_json())
    os.close(write)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.worker.host",
        pass_fds=(read,),
        env={**os.environ, OPTIONS_FD_VARIABLE: str(read), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    os.close(read)
    family: list[int] = []
    try:
        yield HostProcess(process)
    finally:
        if process.returncode is None:
            family = descendants(process.pid)
            process.kill()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
        await process.communicate()


async def test_a_host_registers_serves_a_call_and_replaces_the_worker(gateway: FakeGateway) -> None:
    async with host(options(gateway, warm=2)) as h:
        await gateway.until(lambda: len(gateway.ready()) == 2)
        (register,) = gateway.registers
        assert (register.service_host, register.protocol, register.cap, register.running) == ("a.b", "pcm", 4, ())
        assert len(register.link_key) > 30 and register.epoch > 1_700_000_000_000
        worker = gateway.ready()[0]
        folder = Path(worker.url.removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        link = (await gateway.link(worker)).start()
        await link.echoes()
        await gateway.until(lambda: [w for w in gateway.workers if w.state == "busy" and w.session == "s1"])
        await gateway.until(lambda: [w for w in gateway.workers if w.session == "s1" and w.memory > 2**20])
        await gateway.until(
            lambda: len({w.id for w in gateway.ready()} - {worker.id}) == 2
        )  # beyond the one that talks
        link.tell(pcm.Stop("caller_hangup"))
        assert await link.end() == 1000
        await gateway.until(lambda: worker.id not in {w.id for w in gateway.workers})
        gateway.leave()
        status, output = await h.ended()
        assert status == 0 and "its gateway has ended" in output
    assert not folder.exists()


async def test_links_need_the_key_and_a_session_of_their_own(gateway: FakeGateway) -> None:
    async with host(options(gateway)):
        worker = await gateway.ready_worker()
        with pytest.raises(LinkRefused, match="401"):
            await Link().dial(worker.url, "wrong", "s1", 1)
        (await gateway.link(worker, "s1", 5)).start(fence=5)
        with pytest.raises(LinkRefused, match="503"):
            await gateway.link(worker, "s2", 1)
        with pytest.raises(LinkRefused, match="409"):
            await gateway.link(worker, "s1", 4)


async def test_a_higher_fence_attaches_and_the_bot_goes_on(gateway: FakeGateway, bot: str) -> None:
    async with host(options(gateway, target=bot)):
        worker = await gateway.ready_worker()
        old = (await gateway.link(worker, "s1", 1)).start(fence=1)
        await old.echoes()
        pid = old.said[0]
        new = (await gateway.link(worker, "s1", 2)).start(fence=2)
        assert await old.end() == 4001
        await new.echoes()
        assert not [m for m in new.said if isinstance(m, dict) and m["type"] == "state"]  # the same bot, not another
        assert pid["type"] == "state"


async def test_a_worker_that_dies_idle_is_out_of_the_pool_and_replaced(gateway: FakeGateway) -> None:
    async with host(options(gateway)) as h:
        worker = await gateway.ready_worker()
        (pid,) = descendants(descendants(h.pid)[0])
        await asyncio.sleep(1.1)  # an accident, not a worker that cannot live: see fleet.STABLE_AFTER
        kill(pid)
        await gateway.ready_besides(worker)
        assert worker.id not in {w.id for w in gateway.workers}
        with pytest.raises(LinkError):
            await gateway.link(worker)


async def test_a_worker_that_dies_in_a_call_breaks_its_link_and_another_resumes(gateway: FakeGateway, bot: str) -> None:
    async with host(options(gateway, target=bot)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker)).start()
        await link.echoes()
        pid = int(base64.b64decode(link.said[0]["state"]))
        spare = await gateway.ready_besides(worker)
        kill(pid)
        assert await link.end() == 1006
        await gateway.until(lambda: worker.id not in {w.id for w in gateway.workers})
        again = (await gateway.link(spare, "s1", 2)).start(fence=2, resumed=True, attempt=2)
        await again.echoes()
        gateway.leave()
        again.tell(pcm.Stop("caller_hangup"))
        _, output = await h.ended()
        lines = [json.loads(line) for line in output.splitlines() if "ended during its call: killed by SIGKILL" in line]
        assert [(line["session"], line["service"]) for line in lines] == [("s1", "a.b")]


async def test_a_bot_that_raises_closes_1011_and_its_traceback_stays_here(gateway: FakeGateway, bot: str) -> None:
    async with host(options(gateway, target=bot)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker, "raises")).start("raises")
        assert await link.end() == 1011
        await gateway.ready_besides(worker)
        gateway.leave()
        _, output = await h.ended()
        assert "RuntimeError: private" in output and "private" not in str(link.said)


async def test_a_worker_that_does_not_end_after_its_call_is_killed(gateway: FakeGateway, bot: str) -> None:
    async with host(options(gateway, target=bot, wrapup_seconds=1.0)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker, "stays")).start("stays")
        await link.until(lambda: link.said)
        link.tell(pcm.Stop("caller_hangup"))
        await gateway.until(lambda: [w for beat in gateway.beats for w in beat.workers if w.state == "done"])
        await gateway.until(lambda: worker.id not in {w.id for w in gateway.workers})
        assert await link.end() == 1006
        gateway.leave()
        assert "had not ended 1 s after its call: killed" in (await h.ended())[1]


async def test_start_makes_a_worker_for_that_session_at_once_beyond_those_warm(gateway: FakeGateway) -> None:
    async with host(options(gateway, warm=0)):
        await gateway.until(lambda: gateway.registers)
        gateway.tell(workers.StartWorker("s7"))
        gateway.tell(workers.StartWorker("s7"))
        await gateway.until(lambda: [w for w in gateway.workers if w.state == "ready"])
        (worker,) = gateway.workers
        assert worker.session == "s7"
        with pytest.raises(LinkRefused, match="503"):
            await gateway.link(worker, "s1")
        await (await gateway.link(worker, "s7")).start("s7").echoes()


async def test_no_more_workers_than_max(gateway: FakeGateway) -> None:
    async with host(options(gateway, warm=2, max=2)):
        await gateway.until(lambda: len(gateway.ready()) == 2)
        links = [(await gateway.link(w, w.id)).start(w.id) for w in gateway.ready()]
        for link in links:
            await link.echoes()
        await gateway.until(lambda: [w.state for w in gateway.workers] == ["busy", "busy"])
        links[0].tell(pcm.Stop("caller_hangup"))
        await gateway.ready_worker()  # those that talked cannot be it: they said that they were busy


async def test_gone_registers_again_with_the_running_sessions(gateway: FakeGateway) -> None:
    async with host(options(gateway)):
        worker = await gateway.ready_worker()
        await (await gateway.link(worker, "s1", 12)).start(fence=12).echoes()
        gateway.answer_beats = workers.Gone()
        await gateway.until(lambda: len(gateway.registers) > 1)
        gateway.answer_beats = workers.Ok()
        assert gateway.registers[-1].running == (workers.Running("s1", 12, worker.id),)
        assert gateway.registers[-1].epoch == gateway.registers[0].epoch


@pytest.mark.parametrize("how", ["dies", "is stuck"])
async def test_a_gateway_that_comes_back_within_the_grace_finds_its_calls(gateway: FakeGateway, how: str) -> None:
    gateway.lease_s = 0.5 * SCALE
    async with host(options(gateway)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker, "s1", 3)).start(fence=3)
        await link.echoes()
        if how == "dies":
            gateway.die()
            link.socket.abort()
            again = await FakeGateway(gateway.path).open()
        else:
            gateway.answer_beats = None
            again = gateway
            gateway.registers.clear()
        await again.until(lambda: again.registers)
        gateway.answer_beats = workers.Ok()
        assert again.registers[0].running == (workers.Running("s1", 3, worker.id),)
        await (await again.link(worker, "s1", 4)).start(fence=4).echoes()
        assert h.process.returncode is None
        again.die()


async def test_a_host_that_no_gateway_takes_back_ends_after_its_last_call(gateway: FakeGateway) -> None:
    async with host(options(gateway, grace_seconds=0.5 * SCALE)) as h:
        link = (await gateway.link(await gateway.ready_worker())).start()
        await link.echoes()
        gateway.die()
        await asyncio.sleep(0.8 * SCALE)
        await link.echoes()  # a running call keeps its host
        assert h.process.returncode is None
        link.tell(pcm.Stop("caller_hangup"))
        status, output = await h.ended()
        assert status == 0 and "no gateway for" in output


async def test_signals_of_the_group_end_no_process(gateway: FakeGateway) -> None:
    async with host(options(gateway)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker)).start()
        await link.echoes()
        await gateway.ready_besides(worker)
        for number in (signal.SIGTERM, signal.SIGINT):
            for pid in (h.pid, *descendants(h.pid)):
                kill(pid, number)
        await link.echoes()
        link.tell(pcm.Stop("caller_hangup"))
        assert await link.end() == 1000
        await gateway.ready_worker()


async def test_when_the_host_is_killed_idle_workers_end_and_busy_ones_finish(gateway: FakeGateway) -> None:
    async with host(options(gateway)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker)).start()
        await link.echoes()
        await gateway.ready_besides(worker)
        fork_server = descendants(h.pid)[0]
        assert len(descendants(fork_server)) == 2
        kill(h.pid)
        await until(lambda: len(descendants(fork_server)) == 1)
        await link.echoes()
        with pytest.raises(LinkRefused, match="503"):
            await gateway.link(worker, "s2")
        link.tell(pcm.Stop("caller_hangup"))
        assert await link.end() == 1000
        await until_dead(fork_server)
    assert not Path(worker.url.removeprefix("unix:")).parent.exists()


async def test_a_fork_server_that_is_killed_is_replaced_and_calls_go_on(gateway: FakeGateway) -> None:
    async with host(options(gateway, warm=1)) as h:
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker)).start()
        await link.echoes()
        idle = await gateway.ready_besides(worker)
        (fork_server,) = [p for p in descendants(h.pid) if descendants(p)]
        kill(fork_server)
        await link.echoes()
        second = (await gateway.link(idle, "s2")).start("s2")
        await second.echoes()
        await gateway.ready_besides(worker, idle)
        for each in (link, second):
            each.tell(pcm.Stop("caller_hangup"))
        await link.end()


async def test_an_import_that_starts_threads_makes_each_worker_a_process(gateway: FakeGateway, tmp_path: Path) -> None:
    target = tmp_path / "mybot.py"
    target.write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n" + BOT
    )
    async with host(options(gateway, target=str(target))) as h:
        link = (await gateway.link(await gateway.ready_worker())).start()
        await link.echoes()
        assert [p for p in descendants(h.pid) if "gateway.worker.process" in Path(f"/proc/{p}/cmdline").read_text()]
        link.tell(pcm.Stop("caller_hangup"))
        await link.end()
        gateway.leave()
        [said] = [line for line in (await h.ended())[1].splitlines() if "importing it leaves" in line]
        event = json.loads(said)["event"]
    assert 'importing it leaves the thread "Thread-1 (sleep)", which forked workers would share' in event


async def test_workers_on_tcp_have_urls_of_their_own(gateway: FakeGateway) -> None:
    async with host(options(gateway, listen="127.0.0.1", advertise="localhost")) as h:
        worker = await gateway.ready_worker()
        assert worker.url.startswith("ws://localhost:") and worker.url.endswith("/ws")
        link = await gateway.link(workers.Worker(worker.id, worker.url.replace("localhost", "127.0.0.1"), "ready"))
        await link.start().echoes()
        link.tell(pcm.Stop("caller_hangup"))
        await link.end()
        assert h.process.returncode is None


@pytest.mark.skipif(not _HAS_IPV6, reason="this machine has no IPv6 loopback")
async def test_workers_on_ipv6_can_be_reached(gateway: FakeGateway) -> None:
    async with host(options(gateway, listen="::1")):
        worker = await gateway.ready_worker()
        assert worker.url.startswith("ws://[::1]:")
        link = (await gateway.link(worker)).start()
        await link.echoes()
        link.tell(pcm.Stop("caller_hangup"))
        await link.end()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (
            "exit",
            "exit status 3; did the bot end its process by os._exit() in prewarm()? Let it return or raise",
        ),
        ("raise", "prewarm() raised RuntimeError: no model (mybot.py, line 7)"),
    ],
)
async def test_failing_starts_are_tried_ever_more_slowly_though_a_caller_waits(
    gateway: FakeGateway, bot: str, how: str, why: str
) -> None:
    """While a session waits the gateway asks for a worker at each beat, and each end of a worker is a beat."""
    gateway.waiting, began = "s1", time.monotonic()
    async with host(options(gateway, target=bot), TEST_PREWARM=how) as h:
        await gateway.until(lambda: gateway.beats)
        await asyncio.sleep(2.0)

        def seen() -> set[str]:
            return {w.id for b in (*gateway.registers, *gateway.beats) for w in b.workers}

        await gateway.until(lambda: len(seen()) >= 2)
        starts = 2 + math.log2((time.monotonic() - began) / 0.2 + 1)  # at 0, 0.2, 0.6, 1.4, 3.0 s and so on
        assert not gateway.ready() and len(seen()) <= 2 * starts  # the warm and the caller's
        gateway.waiting = ""
        gateway.leave()
        _, output = await h.ended()
    lines = [json.loads(line) for line in output.splitlines()]
    told = [line["event"] for line in lines if "failed to start" in line["event"]]
    assert len(told) == 1 and f" failed to start: {why}; retrying in 0." in told[0]
    assert told[0].endswith("with growing pauses")
    assert len([line for line in lines if "exception" in line]) == (how == "raise")


async def test_a_bot_that_cannot_be_imported_is_one_line_and_status_2(gateway: FakeGateway, tmp_path: Path) -> None:
    async with host(options(gateway, target="no_such_package")) as h:
        status, output = await h.ended()
    assert status == 2 and output == (
        "no_such_package: there is no such module here; a bot is path/bot.py or package.module:function\n"
    )
    (tmp_path / "mybot.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(BotError, match="was killed"):
        await run_host(options(gateway, target=str(tmp_path / "mybot.py")))
    (tmp_path / "mybot.py").write_text("import os\nos._exit(3)")
    with pytest.raises(BotError, match=r"the process that imports it has ended, exit status 3 \(by os\._exit\(\)\?\)"):
        await run_host(options(gateway, target=str(tmp_path / "mybot.py")))


async def test_a_parent_that_asks_for_it_hears_why_a_host_cannot_be(gateway: FakeGateway) -> None:
    words, theirs = os.pipe()
    read, write = os.pipe()
    os.write(write, options(gateway, target="no_such").to_json())
    os.close(write)
    ours = {FAILURE_FD_VARIABLE: str(theirs), OPTIONS_FD_VARIABLE: str(read)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.worker.host",
        env={**os.environ, **ours},
        pass_fds=(theirs, read),
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    os.close(read)
    _, output = await process.communicate()
    said = os.read(words, 4096).decode()
    os.close(words)
    assert (process.returncode, output) == (2, b"")
    assert said.startswith("no_such: there is no such module here") and said.count("\n") == 1


async def test_a_wrong_key_is_said_and_tried_again(gateway: FakeGateway) -> None:
    async with host(options(gateway, key="wrong", grace_seconds=0.8 * SCALE)) as h:
        await gateway.until(lambda: gateway.refused)
        _, output = await h.ended()
    assert "refused this host: 401: the key is not among its `[workers] keys`" in output


async def test_without_options_it_says_where_they_belong() -> None:
    environment = {k: v for k, v in os.environ.items() if k != OPTIONS_FD_VARIABLE}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.worker.host", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, output = await process.communicate()
    assert process.returncode == 2 and OPTIONS_FD_VARIABLE in output.decode() and output.count(b"\n") == 1


# In this process, for what only the caller of run_host can do.


async def test_drain_says_so_ends_the_idle_and_waits_for_the_call(gateway: FakeGateway) -> None:
    drain = asyncio.Event()
    task = asyncio.create_task(run_host(options(gateway), drain))
    worker = await gateway.ready_worker()
    link = (await gateway.link(worker)).start()
    await link.echoes()
    await gateway.ready_besides(worker)
    drain.set()
    await gateway.until(lambda: gateway.drained and not gateway.ready())
    await link.echoes()
    assert not task.done()
    link.tell(pcm.Stop("caller_hangup"))
    await asyncio.wait_for(task, PATIENCE)


async def test_a_host_that_drains_says_so_at_each_registration(gateway: FakeGateway) -> None:
    """A gateway that was away, and one whose registry has forgotten the host."""
    drain = asyncio.Event()
    task = asyncio.create_task(run_host(options(gateway), drain))
    link = (await gateway.link(await gateway.ready_worker())).start()
    await link.echoes()
    drain.set()
    await gateway.until(lambda: gateway.drained)
    gateway.drained, gateway.answer_beats = False, workers.Gone()
    await gateway.until(lambda: len(gateway.registers) > 1 and gateway.drained)
    gateway.die()
    again = await FakeGateway(gateway.path).open()
    await again.until(lambda: again.registers and again.drained)
    assert again.registers[0].cap == len(again.registers[0].running) == 1, "nothing is to be claimed meanwhile"
    link.tell(pcm.Stop("caller_hangup"))
    await asyncio.wait_for(task, PATIENCE)
    again.die()


async def test_a_host_that_is_not_registered_connects_again(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "CONNECT_TIMEOUT", 0.3 * SCALE)
    gateway.registers_hosts = False
    drain = asyncio.Event()
    task = asyncio.create_task(run_host(options(gateway, grace_seconds=60.0 * SCALE), drain))
    await gateway.until(lambda: len(gateway.registers) >= 3)  # each up to 1.3 s after the last
    gateway.registers_hosts = True
    await gateway.until(lambda: gateway.beats)
    assert caplog.text.count("has not registered this host (1006)") == 1
    drain.set()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_stopped_worker_is_killed_and_replaced(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.worker import watchdog

    monkeypatch.setattr(watchdog, "HUNG_AFTER", 4.0 * SCALE)
    drain = asyncio.Event()
    before = set(descendants(os.getpid()))
    task = asyncio.create_task(run_host(options(gateway), drain))
    worker = await gateway.ready_worker()
    pids = [p for p in descendants(os.getpid()) if p not in before and not descendants(p)]
    kill(pids[-1], signal.SIGSTOP)
    await gateway.ready_besides(worker)
    await until_dead(pids[-1])
    assert not alive(pids[-1])
    drain.set()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_host_elsewhere_waits_for_its_first_gateway_as_long_as_it_takes(gateway: FakeGateway) -> None:
    """A service manager that starts it too early would only start it again, later and later."""
    gateway.die()
    async with host(options(gateway, grace_seconds=0.3 * SCALE, listen="127.0.0.1")) as h:
        await asyncio.sleep(2.0 * SCALE)
        assert h.process.returncode is None
        again = await FakeGateway(gateway.path).open()
        await again.until(lambda: again.registers)
        again.die()
        status, output = await h.ended()
        assert status == 0 and "no gateway for" in output


async def test_the_gateway_says_how_long_a_bot_may_wrap_up(gateway: FakeGateway, bot: str) -> None:
    gateway.wrapup_s = 0.3 * SCALE
    async with host(options(gateway, target=bot, wrapup_seconds=600.0)):
        worker = await gateway.ready_worker()
        link = (await gateway.link(worker, "stays")).start("stays")
        link.tell(pcm.Stop("caller_hangup"))
        await gateway.until(lambda: gateway.ends.get("overstayed") == 1)


# What a host says, and where it cannot be.

PRINTS = """
import logging, os, sys
print("imported")
logging.basicConfig(stream=sys.stdout, format="the bot's own form: %(message)s") if os.environ.get("TEST_OWN") else None

async def bot(call):
    print("hello", call.session_id)
    print("begun, ", end="", flush=False)
    logging.getLogger("mine").warning("logged")
    call.save_state(b"printed")
    async for _ in call:
        pass
"""


@pytest.mark.parametrize("own", ["", "1"])
async def test_what_a_bot_prints_is_a_line_at_once_with_its_session(
    gateway: FakeGateway, tmp_path: Path, own: str
) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    async with host(options(gateway, target=str(tmp_path / "prints.py")), TEST_OWN=own) as h:
        link = (await gateway.link(await gateway.ready_worker(), "s7")).start("s7")
        await link.until(lambda: any(m.get("type") == "state" for m in link.said if isinstance(m, dict)))
        for pid in (*descendants(h.pid), h.pid):  # nothing is left to be written at an exit
            kill(pid)
        output = (await h.ended())[1]
    lines = [json.loads(line) for line in output.splitlines()]
    printed = {line["event"]: line for line in lines}
    assert set(printed["hello s7"]) == {"session", "service", "event", "level", "timestamp"}
    assert (printed["hello s7"]["session"], printed["hello s7"]["service"]) == ("s7", "a.b")
    assert printed["imported"]["level"] == "info"
    logged = "begun, the bot's own form: logged" if own else "logged"
    assert printed[logged]["session"] == "s7"


UNENDED = """
import asyncio, sys, warnings

async def bot(call):
    print("half a line", end="")
    sys.stderr.write("to stderr\\n")
    warnings.warn("old", RuntimeWarning)
    async for _ in call:
        pass
"""


async def test_unended_prints_stderr_and_warnings_are_lines_in_time(gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(UNENDED)
    async with host(options(gateway, target=str(tmp_path / "prints.py"))) as h:
        (await gateway.link(await gateway.ready_worker(), "s7")).start("s7")
        assert h.process.stdout is not None
        printed: dict[str, str | None] = {}
        async with asyncio.timeout(PATIENCE):
            while not {"half a line", "to stderr"} <= printed.keys():
                line = json.loads(await h.process.stdout.readline())
                printed[line["event"]] = line.get("session")
    assert printed["half a line"] == printed["to stderr"] == "s7"
    assert [session for event, session in printed.items() if "RuntimeWarning: old" in event] == ["s7"]


async def test_a_bot_that_blocks_the_loop_is_told_how_not_to(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway.worker import watchdog

    monkeypatch.setattr(watchdog, "SILENT_AFTER", 2.5)
    (tmp_path / "mybot.py").write_text("import time\nasync def bot(call):\n    time.sleep(60)\n")
    drain, before = asyncio.Event(), set(descendants(os.getpid()))
    task = asyncio.create_task(run_host(options(gateway, target=str(tmp_path / "mybot.py")), drain))
    link = (await gateway.link(await gateway.ready_worker(), "s7")).start("s7")
    await gateway.until(lambda: "does its bot block the loop?" in caplog.text)
    [said] = [r for r in caplog.records if "does its bot block the loop?" in r.getMessage()]
    assert said.session == "s7" and "asyncio.to_thread" in said.getMessage()  # type: ignore[attr-defined]
    drain.set()
    for pid in set(descendants(os.getpid())) - before:
        if not descendants(pid):
            kill(pid)
    await link.end()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_worker_sees_nothing_of_the_gateways_settings(gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "sees.py").write_text(
        "import os\nasync def bot(call):\n    print(sorted(os.environ))\n    async for _ in call: pass\n"
    )
    environment = {"GATEWAY_SECRET": "s3cret", "GATEWAY_WORKER_KEY": "k3y", "MY_OWN": "1"}
    async with host(options(gateway, target=str(tmp_path / "sees.py")), **environment) as h:
        link = (await gateway.link(await gateway.ready_worker())).start()
        link.tell(pcm.Stop("caller_hangup"))
        await link.end()
        gateway.leave()
        output = (await h.ended())[1]
    assert "'MY_OWN'" in output and "'GATEWAY_" not in output.replace("'GATEWAY_LOG'", "")


async def test_a_temporary_directory_with_a_long_name_is_passed_over(gateway: FakeGateway, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 109)
    long.mkdir()
    async with host(options(gateway, run_dir=""), TMPDIR=str(long)):
        worker = await gateway.ready_worker()
        assert str(long) not in worker.url
        await (await gateway.link(worker)).start().echoes()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run_dir": "/tmp/" + "x" * 109}, "is too long for the paths of unix sockets (103 bytes)"),
        ({"listen": "203.0.113.9"}, "--listen 203.0.113.9: Cannot assign requested address; name an address of this"),
        ({"listen": "no-such-host.invalid"}, "--listen no-such-host.invalid: "),
    ],
)
async def test_a_place_where_no_worker_can_listen_is_one_line_and_status_2(
    gateway: FakeGateway, changes: dict[str, str], why: str
) -> None:
    async with host(options(gateway, **changes)) as h:
        status, output = await h.ended()
    assert status == 2 and why in output and output.count("\n") == 1


async def test_a_service_that_no_gateway_has_is_one_line_and_status_2(gateway: FakeGateway) -> None:
    gateway.refuses_hosts = "no service has this --service-host"
    async with host(options(gateway)) as h:
        status, output = await h.ended()
    assert status == 2 and output.splitlines()[-1] == f"{gateway.url}: no service has this --service-host"


async def test_a_gateway_that_has_once_known_a_host_does_not_end_it(gateway: FakeGateway) -> None:
    async with host(options(gateway, grace_seconds=60.0)) as h:
        await gateway.ready_worker()
        gateway.refuses_hosts = "no service has this --service-host"
        assert gateway.socket is not None
        gateway.socket.abort()
        await gateway.until(lambda: gateway.refused >= 2)
        assert h.process.returncode is None


@pytest.mark.parametrize("what", ["its import", "its prewarm"])
async def test_a_host_is_ended_by_its_parent_while_its_bot_still_starts(
    gateway: FakeGateway, tmp_path: Path, what: str
) -> None:
    sleep = "time.sleep(600)" if what == "its import" else "pass"
    (tmp_path / "slow.py").write_text(
        f"import time\nprint('begun')\n{sleep}\ndef prewarm():\n    print('warm')\n    time.sleep(600)\n"
        "async def bot(call): pass\n"
    )
    async with host(options(gateway, target=str(tmp_path / "slow.py"))) as h:
        assert h.process.stdout is not None
        word = "begun" if what == "its import" else "warm"
        async with asyncio.timeout(PATIENCE):
            while word not in (await h.process.stdout.readline()).decode():
                pass
        below = descendants(h.pid)
        kill(h.pid, DRAIN_SIGNAL)
        status, _ = await h.ended()  # long before the ten minutes are over
        assert status == 0
        await until_dead(*below)


async def test_a_host_says_how_long_starts_take(gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef prewarm(): time.sleep(1)\nasync def bot(call): pass\n")
    async with host(options(gateway, target=str(tmp_path / "slow.py"))):
        await gateway.ready_worker()
        assert gateway.beats[-1].start_ms >= 1000
