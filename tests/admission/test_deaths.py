"""Workers that die, hang, cannot start or will not end, through the gateway: its callers do not notice more than a gap,
and the pool is whole again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from gateway.worker.fleet import STABLE_AFTER
from tests.acceptance.program import run
from tests.admission.serving import Serving, config, obedient, serving
from tests.kit.bots import place_bot
from tests.kit.proc import alive, kill
from tests.kit.waiting import SCALE, until

WARM, MAX = 3, 8


async def many_calls(served: Serving, n: int, at_once: int = 6) -> set[int]:
    """The pids that served them; each by the first worker that it was given."""
    limit = asyncio.Semaphore(at_once)

    async def one() -> int:
        async with limit:
            return await served.short_call()

    return set(await asyncio.gather(*(one() for _ in range(n))))


async def test_workers_killed_idle_are_never_met_by_the_next_100_calls(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=WARM, max=MAX)), bot) as served:
        await asyncio.sleep(STABLE_AFTER + 0.1)  # younger ones are taken for workers that will not live
        victims = served.idle()
        assert len(victims) >= WARM
        for pid in victims:
            kill(pid)
        await served.until_log("ended while it was idle: killed by SIGKILL")
        await served.until_whole(WARM)
        served_by = await many_calls(served, 100)
        assert len(served_by) == 100, "a worker served twice"
        assert not served_by & victims
        await served.until_whole(WARM)


async def test_a_worker_killed_in_a_call_is_followed_by_another(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=WARM, max=MAX)), bot) as served:
        async with served.talking() as (call, phone):
            first = served.pid_of(call)
            kill(first)
            began = time.monotonic()
            # Its link's pings would miss it after twelve seconds.
            await until(lambda: len(served.notes("start", call)) == 2, 10, lambda: "no other worker took the call")
            print(f"silent for {time.monotonic() - began:.2f} s")
            await phone.hears_echo("of the next worker", 0.2)
            assert (await served.slots())["used"] == 1
            await phone.hang_up()
        [_, second] = served.notes("start", call)
        assert second["resumed"]
        assert (second["attempt"], second["state"]) == (2, f"left by {first}")
        await served.until_log("ended during its call")
        await served.until_whole(WARM)
        metrics = (await served.ops.get("/metrics")).text
        assert 'gateway_resumes_total{cause="worker_lost",result="attached"} 1.0' in metrics
        await many_calls(served, 5)


async def test_a_worker_that_will_not_end_is_killed_and_keeps_its_slot_till_then(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=1, max=2, wrapup_seconds=1)), bot) as served:
        async with served.talking("do=stay") as (call, phone):
            await phone.hang_up()
        await until(lambda: served.notes("end", call), complain=lambda: "the bot was not told")
        assert (await served.slots())["used"] == 1
        await served.until_log("had not ended 1 s after its call: killed")
        await served.until_whole(1)
        # Its channel, by which its end is known, is closed by the kernel a moment before it is dead.
        await until(lambda: not alive(served.pid_of(call)), complain=lambda: "it lives, and its slot is free")
        await many_calls(served, 5, at_once=1)


@pytest.mark.slow
async def test_workers_that_exit_in_prewarm_cost_no_call_and_come_when_mended(tmp_path: Path) -> None:
    """The last good worker serves; who finds none is let go in time, and the pool comes back by itself."""
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=2, max=4)), bot) as served:
        (tmp_path / "prewarm").write_text("exit")
        kill(min(served.idle()))
        said = await served.until_log("failed to start: exit status 3")
        assert "retrying in" in said["event"]
        await served.short_call()  # by the one that was ready before
        assert served.gateway.alive()
        (tmp_path / "prewarm").unlink()
        await served.until_whole(2)
        await many_calls(served, 5)


@pytest.mark.slow
async def test_a_module_that_breaks_while_we_serve_is_said_and_tried_again(tmp_path: Path) -> None:
    """It is imported again only when its fork server was lost."""
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=2, max=4)), bot, tracebacks=True) as served:
        good = bot.read_text()
        async with served.talking() as (call, phone):
            bot.write_text("raise RuntimeError('half an upload')")
            kill(served.fork_server)
            await served.until_log("cannot start a fork server")
            await phone.hears_echo("while the module is broken", 0.2)
            bot.write_text(good)
            await phone.hears_echo("with the module mended", 0.2)
            await phone.hang_up()
        assert len(served.notes("start", call)) == 1
        assert len(await many_calls(served, 5)) == 5
        await served.until_whole(2)


@pytest.mark.slow
async def test_a_host_killed_while_its_module_is_broken_comes_back_when_mended(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=2, max=4)), bot, tracebacks=True) as served:
        good = bot.read_text()
        bot.write_text("raise RuntimeError('half an upload')")
        kill(served.host)
        await served.until_log("half an upload")
        assert await served.is_ready()
        bot.write_text(good)
        await served.until_log("worker host registered", nth=2)
        await served.until_whole(2)
        await many_calls(served, 5)


def test_a_module_that_fails_to_import_is_one_line_and_a_status(tmp_path: Path) -> None:
    bot = tmp_path / "broken.py"
    bot.write_text("import a_module_that_is_not_there\n")
    file = tmp_path / "gateway.toml"
    file.write_text(config(obedient(bot)))
    result = run("serve", "--config", str(file), "--port", "0")
    assert result.returncode == 2, result.stderr
    said = result.stderr.strip().splitlines()[-1]
    assert "obedient.acme.bot" in said
    assert "a_module_that_is_not_there" in said


@pytest.mark.slow
async def test_stopped_workers_are_killed_and_their_callers_served_by_others(tmp_path: Path) -> None:
    """SIGSTOP: the link's pings find the one in a call, the host's heartbeat the idle one."""
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, config(obedient(bot, min_warm=WARM, max=MAX)), bot) as served:
        async with served.talking() as (call, phone):
            talking, idle = served.pid_of(call), min(served.idle())
            for pid in (talking, idle):
                kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            await until(lambda: len(served.notes("start", call)) == 2, complain=lambda: "no other worker took the call")
            print(f"silent for {time.monotonic() - began:.1f} s")
            # Twelve are promised; the next worker that it is given may be the other stopped one, which costs a second.
            assert time.monotonic() - began < 13 * SCALE
            await phone.hears_echo("of another worker", 0.2)
            await many_calls(served, 20)  # the idle one still looks ready: it is tried, and passed over
            await until(lambda: not {talking, idle} & served.workers(), 25, lambda: "the stopped are still there")
            await phone.hang_up()
        await served.until_log("has not answered for 15 s")
        await served.until_whole(WARM)
        await many_calls(served, 20)
