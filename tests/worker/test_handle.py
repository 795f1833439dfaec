from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gateway.worker.handle import MAX_REPORT, WorkerHandle
from gateway.worker.process import WorkerReport


@pytest.fixture
def ends() -> Iterator[tuple[WorkerHandle, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield WorkerHandle("w1", "", ours, 0.0, 0.0), theirs


def test_reports_come_whole_whatever_the_pieces(ends: tuple[WorkerHandle, socket.socket]) -> None:
    handle, worker = ends
    line = WorkerReport("ready", "s1", 7).line()
    assert handle.read() == []
    worker.send(line + line[:5])
    assert handle.read() == [WorkerReport("ready", "s1", 7)]
    worker.send(line[5:])
    assert handle.read() == [WorkerReport("ready", "s1", 7)]
    worker.close()
    assert handle.read() is None


def test_what_a_bot_writes_to_the_channel_is_no_report(
    ends: tuple[WorkerHandle, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    handle, worker = ends
    worker.send(b'nonsense\n{}\n[]\n{"state":"ready"}\n\n' + WorkerReport("busy").line())
    assert handle.read() == [WorkerReport("busy")] and caplog.text.count("an invalid message") == 4
    for _ in range(40):
        worker.send(b"x" * 8192)
        handle.read()
    assert len(handle._buffer) <= MAX_REPORT


@pytest.mark.parametrize(
    ("status", "failed", "how"),
    [
        (3, "", "exit status 3"),
        (-9, "", "killed by SIGKILL"),
        (-250, "", "killed by signal 250"),
        (None, "", "it is gone"),
        (1, "no model", "no model"),
    ],
)
def test_how_a_worker_ended(
    ends: tuple[WorkerHandle, socket.socket], status: int | None, failed: str, how: str
) -> None:
    handle, _ = ends
    handle.status, handle.report = status, WorkerReport(failed=failed)
    assert handle.how_it_ended() == how


@pytest.mark.parametrize(
    ("status", "ready_at", "mend"),
    [
        (3, 1.0, "; did the bot end its process by os._exit()? Let it return or raise"),
        (3, 0.0, "; did the bot end its process by os._exit() in prewarm()? Let it return or raise"),
        (-9, 1.0, "; the kernel does that when memory is short: lower max, or give the machine more"),
        (-11, 1.0, " (a library crashed?)"),
        (None, 1.0, ""),
    ],
)
def test_what_helps_against_such_an_end(
    ends: tuple[WorkerHandle, socket.socket], status: int | None, ready_at: float, mend: str
) -> None:
    handle, _ = ends
    handle.status, handle.ready_at = status, ready_at
    assert handle.likely_cause() == mend
    handle.report = WorkerReport(failed="no model")
    assert handle.likely_cause() == ""
