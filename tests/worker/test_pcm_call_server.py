from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import LinkRefused
from gateway.protocol import pcm
from gateway.sockets import connect, server_protocol
from gateway.worker import Audio, Call, Status, call_server
from gateway.worker.bot_loader import Bot
from gateway.worker.pcm_call_server import PcmCallServer
from tests.kit.fake_gateway import Link
from tests.kit.waiting import PATIENCE, SCALE, until

KEY = "link-key"


class Worker:
    def __init__(self, server: PcmCallServer, path: str, reports: list[tuple[str, str, int]]) -> None:
        self.server, self.path, self.reports = server, path, reports

    async def dial(self, session: str = "s1", fence: int | str = 1, key: str = KEY) -> Link:
        return await Link(8000, PATIENCE).dial(f"unix:{self.path}", key, session, fence)

    async def status(self) -> int:
        return await asyncio.wait_for(asyncio.shield(self.server.finished), PATIENCE)

    async def reported(self, state: str) -> None:
        await until(lambda: self.reports and self.reports[-1][0] == state, complain=lambda: f"{state}: {self.reports}")

    async def alone(self) -> None:
        """It has noticed that its link is gone."""
        await until(lambda: self.server._link is None)


@contextlib.asynccontextmanager
async def worker(
    tmp_path: Path, run: Callable[[Call], Awaitable[None]], *, reserved: str = "", grace: float = PATIENCE
) -> AsyncIterator[Worker]:
    reports: list[tuple[str, str, int]] = []
    server = PcmCallServer(Bot("bot.py", run, None), KEY, lambda *r: reports.append(r), reserved=reserved, grace=grace)
    path = str(tmp_path / "w.sock")
    shells: list[Any] = []

    def made() -> Any:
        shells.append(server_protocol(server.decide, plain=server.plain)())
        return shells[-1]

    listener = await asyncio.get_running_loop().create_unix_server(made, path)
    try:
        yield Worker(server, path, reports)
    finally:
        listener.close()
        Path(path).unlink(missing_ok=True)
        for shell in shells:
            shell.abort()
        server.finished.cancel()
        await asyncio.sleep(0.01)


async def listen(call: Call) -> None:
    async for _ in call:
        pass


async def test_a_call_from_the_first_message_to_the_last(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def bot(call: Call) -> None:
        heard.append((call.data.from_number, call.session_id))
        async for event in call:
            heard.append(event)
            if isinstance(event, Audio):
                await call.play(event.pcm)
        heard.append(call.end_reason)

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial()
        gateway.socket.send(b"too early")
        gateway.start(fence=3)
        gateway.socket.send(b"\x01\x02")
        await gateway.until(lambda: b"\x01\x02" in gateway.said)
        gateway.tell(pcm.Stop("caller_hangup"))
        assert await gateway.end() == 1000
        assert await w.status() == 0
    assert heard == [("+15550100", "s1"), Audio(b"\x01\x02", 8000), "caller_hangup"]
    assert gateway.said == [{"type": "ready"}, b"\x01\x02"]
    assert w.reports == [("busy", "s1", 1), ("busy", "s1", 3), ("done", "s1", 3), ("done", "s1", 3)]


async def test_the_bot_hangs_up_by_returning(tmp_path: Path) -> None:
    async def bot(call: Call) -> None:
        await call.play(b"\x01\x02")
        call.hangup("bye")

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial()
        gateway.start()
        assert await gateway.end() == 1000 and await w.status() == 0
    assert gateway.said == [{"type": "ready"}, b"\x01\x02", {"type": "hangup", "reason": "bye"}]


@pytest.mark.parametrize("error", [RuntimeError("private"), SystemExit(0), asyncio.CancelledError()])
async def test_a_bot_that_raises_closes_1011_and_is_logged_here_only(
    tmp_path: Path, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def bot(call: Call) -> None:
        raise error

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial()
        gateway.start()
        assert await gateway.end() == 1011 and await w.status() == 1
    (record,) = [r for r in caplog.records if "raised" in r.getMessage()]
    assert "(test_pcm_call_server.py, line " in record.getMessage() and record.session == "s1"
    ours = str(record.exc_text).replace("test_pcm_call_server.py", "")
    assert 'call_server.py", line' not in ours, "not under our own frames"
    assert ("by returning, or by call.hangup()" in record.getMessage()) == isinstance(error, SystemExit)
    assert gateway.said == [] and f"the bot raised {type(error).__name__}" in caplog.text


async def test_who_may_come_in(tmp_path: Path) -> None:
    async with worker(tmp_path, listen) as w:
        for key in ("", "wrong", KEY + "x", "ключ"):
            with pytest.raises(LinkRefused, match="401"):
                await w.dial(key=key.encode().decode("latin-1"))
        assert w.server.free and w.reports == []
        with pytest.raises(LinkRefused, match="404"):
            await connect(f"unix:{w.path}", Link(), headers={}, timeout=PATIENCE, target="/other")
        gateway = await w.dial("s1", 5)
        for session, fence, status in (("s2", 9, 503), ("", 9, 503), ("s1", 4, 409), ("s1", 5, 409), ("s1", "x", 409)):
            with pytest.raises(LinkRefused, match=str(status)):
                await w.dial(session, fence)
        assert gateway.ended is None


async def test_a_higher_fence_attaches_and_the_older_link_closes_4001(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def bot(call: Call) -> None:
        async for event in call:
            heard.append(event)
            await call.play(b"\x05\x06")

    async with worker(tmp_path, bot) as w:
        old = await w.dial("s1", 1)
        old.start(fence=1)
        old.socket.send(b"\x01\x02")
        await old.until(lambda: b"\x05\x06" in old.said)
        new = await w.dial("s1", 2)
        assert await old.end() == 4001
        new.start(fence=2, resumed=True)
        await new.until(lambda: b"\x05\x06" in new.said)
        new.tell(pcm.Stop("caller_hangup"))
        assert await new.end() == 1000
    assert heard == [Audio(b"\x01\x02", 8000), Status("reattached")]
    assert new.said[0] == {"type": "ready"}


async def test_a_broken_link_waits_for_the_next_even_of_the_same_fence(tmp_path: Path) -> None:
    async with worker(tmp_path, listen) as w:
        old = await w.dial("s1", 5)
        old.start(fence=5)
        old.socket.abort()
        await w.alone()
        with pytest.raises(LinkRefused, match="409"):
            await w.dial("s1", 4)
        new = await w.dial("s1", 5)
        new.start(fence=5)
        new.tell(pcm.Stop("caller_hangup"))
        assert await new.end() == 1000 and await w.status() == 0


async def test_a_broken_link_that_is_not_replaced_ends_the_call_as_stream_lost(tmp_path: Path) -> None:
    reasons: list[str] = []

    async def bot(call: Call) -> None:
        await listen(call)
        reasons.append(call.end_reason)

    async with worker(tmp_path, bot, grace=0.05 * SCALE) as w:
        gateway = await w.dial()
        gateway.start()
        await gateway.until(lambda: gateway.said)
        gateway.socket.abort()
        assert await w.status() == 0
    assert reasons == ["stream_lost"] and w.reports[-1][0] == "done"


async def test_a_gateway_that_closes_in_order_ends_the_call(tmp_path: Path) -> None:
    reasons: list[str] = []

    async def bot(call: Call) -> None:
        await listen(call)
        reasons.append(call.end_reason)

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial()
        gateway.start()
        await gateway.until(lambda: gateway.said)
        gateway.socket.close(1000)
        assert await w.status() == 0
    assert reasons == ["unknown_end"]


async def test_a_bot_that_hangs_up_without_a_link_tells_the_next_gateway(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def bot(call: Call) -> None:
        await gone.wait()
        call.hangup("bye")

    async with worker(tmp_path, bot) as w:
        old = await w.dial("s1", 1)
        old.start()
        old.socket.abort()
        await w.alone()
        gone.set()
        await until(lambda: w.server._status is not None, complain="the bot has ended")
        assert not w.server.finished.done()
        new = await w.dial("s1", 2)
        new.start(fence=2)
        assert await new.end() == 1000 and await w.status() == 0
    assert new.said == [{"type": "hangup", "reason": "bye"}]


async def test_a_bot_that_hangs_up_without_a_link_does_not_wait_for_ever(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def bot(call: Call) -> None:
        await gone.wait()

    async with worker(tmp_path, bot, grace=0.05 * SCALE) as w:
        gateway = await w.dial()
        gateway.start()
        gateway.socket.abort()
        await w.alone()
        gone.set()
        assert await w.status() == 0


async def test_after_the_call_no_link_may_come_in(tmp_path: Path) -> None:
    wrapped = asyncio.Event()

    async def bot(call: Call) -> None:
        await listen(call)
        await wrapped.wait()

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial("s1", 1)
        gateway.start()
        gateway.tell(pcm.Stop("caller_hangup"))
        await w.reported("done")
        gateway.socket.close(1000)
        await gateway.end()
        for session in ("s1", "s2"):
            with pytest.raises(LinkRefused, match="503"):
                await w.dial(session, 9)
        wrapped.set()
        assert await w.status() == 0


async def test_a_link_that_ends_before_start_leaves_the_slot_as_new(tmp_path: Path) -> None:
    async with worker(tmp_path, listen) as w:
        gateway = await w.dial("s1", 5)
        assert not w.server.free
        gateway.socket.close(1000)
        await w.reported("ready")
        assert w.server.free
        other = await w.dial("s2", 1)
        other.start("s2")
        other.tell(pcm.Stop("caller_hangup"))
        assert await other.end() == 1000
    assert w.reports[:2] == [("busy", "s1", 5), ("ready", "", 0)]


async def test_a_start_that_never_comes_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_server, "START_TIMEOUT", 0.02 * SCALE)
    async with worker(tmp_path, listen) as w:
        gateway = await w.dial()
        assert await gateway.end() == 1008
        await w.reported("ready")


async def test_a_reserved_worker_is_for_its_session_only_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(tmp_path, listen, reserved="s7") as w:
        with pytest.raises(LinkRefused, match="503"):
            await w.dial("s1")
        assert w.reports == []
    monkeypatch.setattr(call_server, "RESERVED", 0.3 * SCALE)
    async with worker(tmp_path, listen, reserved="s7") as w:
        await w.reported("ready")
        assert w.reports == [("ready", "", 0)]
        await w.dial("s1")
    async with worker(tmp_path, listen, reserved="s7") as w:
        await w.dial("s7")
        await until(lambda: not w.server._reserved)
        assert w.reports == [("busy", "s7", 1)]


async def test_a_session_that_is_named_by_start_only(tmp_path: Path) -> None:
    async with worker(tmp_path, listen) as w:
        gateway = await w.dial(session="", fence="")
        gateway.start("s9", fence=4)
        await gateway.until(lambda: gateway.said)
        assert w.reports[-1] == ("busy", "s9", 4)


async def test_livez_and_readyz(tmp_path: Path) -> None:
    async def ask(path: str) -> int:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "w.sock"))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: w\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        await writer.wait_closed()
        return int(answer.split()[1])

    async with worker(tmp_path, listen) as w:
        assert [await ask(p) for p in ("/livez", "/readyz", "/ws", "/x")] == [200, 200, 426, 404]
        await w.dial()
        assert [await ask(p) for p in ("/livez", "/readyz")] == [200, 503]


async def test_the_key_never_shows_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with worker(tmp_path, listen) as w:
        gateway = await w.dial()
        gateway.start()
        gateway.tell(pcm.Stop("caller_hangup"))
        await w.status()
    assert KEY not in caplog.text and "+15550100" not in caplog.text


async def test_a_reserved_worker_whose_caller_never_came_is_free_for_any(tmp_path: Path) -> None:
    async with worker(tmp_path, listen, reserved="s7") as w:
        with pytest.raises(LinkRefused, match="503"):
            await w.dial("s1")
        never = await w.dial("s7")
        never.socket.abort()
        await w.reported("ready")
        assert w.reports[-1] == ("ready", "", 0)
        (await w.dial("s1")).start("s1")
        await w.reported("busy")
