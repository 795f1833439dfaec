"""A worker host of its own, as on another machine: `gateway worker`, its key, its calls, and a gateway that dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.protocol import workers
from tests.acceptance.program import Gateway, Program, free_port
from tests.admission.serving import SERVICE, Serving, config, serving
from tests.kit.bots import place_bot
from tests.kit.proc import alive, descendants
from tests.kit.waiting import PATIENCE, SECONDS, until

KEY = "remote-worker-key-of-the-tests"
REMOTE = f'host = "{SERVICE}"\ndefault = true\nwrapup_seconds = 1\n'


class RemoteHost(Program):
    """`gateway worker`."""

    def __init__(self, bot: Path, url: str, key: str, *options: str) -> None:
        super().__init__(
            *("worker", str(bot), "--service-host", SERVICE, "--gateway", url, "--warm", "2", "--max", "4", *options),
            env={"GATEWAY_WORKER_KEY": key, "GATEWAY_LOG": "console"},
        )

    async def says(self, what: str, times: int = 1, seconds: float = SECONDS) -> None:
        await until(
            lambda: sum(what in line for line in self.lines) >= times,
            seconds,
            lambda: f"the host does not say {what!r}:\n{self.text()}",
        )


@contextlib.contextmanager
def remote_host(bot: Path, url: str, key: str = KEY, *, advertise: str = "") -> Iterator[RemoteHost]:
    host = RemoteHost(bot, url, key, *(("--advertise", advertise) if advertise else ()))
    try:
        yield host
        host.terminate()
        assert host.wait() == 0, host.text()
    finally:
        below = descendants(host.process.pid) if host.alive() else []  # the fork server leads a group of its own
        host.kill()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def with_key() -> str:
    return config(REMOTE, more=f'\n[workers]\nkeys = ["{KEY}"]\n')


async def test_a_remote_host_registers_serves_and_drains(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, with_key(), bot) as served:
        call, answer = await served.ring()
        assert answer.stream, "no bot is no reason to turn a caller away who can be held"
        with remote_host(bot, served.gateway.url) as host:
            await host.says("registered with")
            async with served.carrier.phone(call, answer) as phone:  # he has waited for it
                await phone.hears_echo("of the remote bot", 0.1)
                await phone.hang_up()
            for _ in range(3):
                await served.short_call()
            await served.until_whole(2)
            async with served.talking() as (call, phone):
                host.terminate()  # drain: the running call ends first
                await until(_refused(served), complain=lambda: "new calls are still given to it")
                await phone.hears_echo("while its host drains", 0.1)
                await phone.hang_up()
            assert host.wait() == 0


def _refused(served: Serving) -> Callable[[], Awaitable[bool]]:
    async def full() -> bool:
        slots = await served.slots()
        return slots["cap"] == 0

    return full


async def test_a_host_keeps_its_calls_over_its_gateways_death_and_is_recognised(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text(with_key())
    arguments = "--config", str(file), "--port", str(free_port())
    with contextlib.ExitStack() as later:
        first = later.enter_context(Gateway(*arguments))
        served = Serving(first, bot)
        host = later.enter_context(remote_host(bot, first.url))
        await host.says("registered with")
        async with served.ops, contextlib.AsyncExitStack() as calls:
            call, answer = await served.ring()
            phone = await calls.enter_async_context(served.carrier.phone(call, answer))
            await phone.hears_echo("before", 0.1)
            pid = served.pid_of(call)
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait(PATIENCE)
            await phone.ends()
            assert phone.close_code == 1006
        await host.says("is gone (1006)")
        assert alive(pid), "its bot did not wait"
        assert not served.notes("end", call)

        second = later.enter_context(Gateway(*arguments))
        assert second.url == first.url
        await host.says("registered with", times=2)
        served = Serving(second, bot)
        async with served.ops:
            assert (await served.slots())["used"] == 1, "its running call is not known"
            again = await served.carrier.resume(answer, call)  # the carrier asks what is next
            assert again.stream
            async with served.carrier.phone(call, again) as phone:
                await phone.hears_echo("of the same bot", 0.1)
                assert served.pid_of(call) == pid
                assert len(served.notes("start", call)) == 1, "it was given a new bot"
                assert [one["status"] for one in served.notes("status", call)] == ["reattached"]
                assert (await served.slots())["used"] == 1
                await phone.hang_up()
            await served.until_whole(2)
            await served.short_call()


@pytest.mark.parametrize(
    ("networks", "advertise", "taken"), [("", "", True), ("", "192.0.2.7", False), ('["10.20.0.0/16"]', "", False)]
)
async def test_workers_are_dialled_in_the_networks_of_the_settings_only(
    tmp_path: Path, networks: str, advertise: str, taken: bool
) -> None:
    bot = place_bot("echo", tmp_path)
    setting = f"networks = {networks}\n" if networks else ""
    async with serving(tmp_path, with_key() + setting, bot) as served:
        with remote_host(bot, served.gateway.url, advertise=advertise) as host:
            if taken:
                await host.says("registered with")
                await served.short_call()
                return
            await host.says(f"--advertise {advertise or '127.0.0.1'} is not in the gateway's [workers] networks")
            refused = await served.until_log("refused")
            assert (refused["where"], refused["reason"]) == ("worker_host", "worker_address")
            assert (await served.slots())["ready"] == 0


async def test_a_wrong_key_is_refused_and_a_right_one_opens_nothing_but_its_door(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    async with serving(tmp_path, with_key(), bot) as served:
        with remote_host(bot, served.gateway.url, key="a-key-of-somebody-else") as host:
            await host.says("refused this host: 401: the key is not among its `[workers] keys`")
            refused = await served.until_log("refused")
            assert (refused["where"], refused["reason"]) == ("upgrade", "bad_worker_key")
            assert (await served.slots())["cap"] == 0
        bearer = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=served.gateway.url, headers=bearer) as client:
            for path in ("/v1/calls", "/v1/calls/x/hangup", "/v1/calls/x/transfer", "/start"):
                assert (await client.post(path, json={"to": "+15550123"})).status_code in (401, 403, 404), path
            assert (await client.get(workers.PATH)).status_code in (404, 426)
            assert (await client.get("/metrics")).status_code == 404
        served.gateway.assert_clean(KEY, "a-key-of-somebody-else")
