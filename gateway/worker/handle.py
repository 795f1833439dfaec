"""One worker, as its host sees it: its channel, its last report, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import dataclass, field

from gateway.protocol.workers import Running, Worker
from gateway.worker.process import WorkerReport
from gateway.worker.usage import Usage

log = logging.getLogger(__name__)

MAX_REPORT = 64 * 1024


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """A worker's process.

    started_at: when its process was asked for; loop time, as of the next two.
    heard: when its last sign of life came.
    ready_at: when it was first ready, 0.0 before.
    status: how it ended, once that is known: the exit status, or minus the signal.
    lost: its channel has ended.
    killed: why its host has killed it.
    end_noted: its end has been counted and logged.
    said_silent: it has been logged that no heartbeat comes.
    retry_seconds: it ended too early; seconds until another is started.
    """

    id: str
    url: str
    channel: socket.socket
    started_at: float
    heard: float
    report: WorkerReport = field(default_factory=WorkerReport)
    pid: int = 0
    ready_at: float = 0.0
    status: int | None = None
    lost: bool = False
    killed: str = ""
    end_noted: bool = False
    retry_seconds: float | None = None
    said_silent: bool = False
    wrapup: asyncio.TimerHandle | None = None
    usage: Usage = field(default_factory=Usage)
    _buffer: bytes = b""

    @property
    def idle(self) -> bool:
        """Ready for any session, or about to be."""
        return self.report.state in ("starting", "ready") and not self.report.session

    @property
    def talking(self) -> bool:
        """It has a call, or its bot wraps one up."""
        return self.report.state in ("busy", "done")

    def as_worker(self) -> Worker:
        """Say what the gateway is told of it."""
        cpu, memory = (self.usage.cpu, self.usage.memory) if self.talking else (0, 0)
        return Worker(self.id, self.url, self.report.state, self.report.session, cpu=cpu, memory=memory)

    def as_running(self) -> Running:
        """Say which session it serves, for a gateway that may have forgotten it."""
        return Running(self.report.session, self.report.fence, self.id)

    def read(self) -> list[WorkerReport] | None:
        """The reports that have come; None at the channel's end."""
        try:
            data = self.channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._buffer = self._buffer[:MAX_REPORT]
        reports = []
        for line in filter(None, lines):
            try:
                reports.append(WorkerReport.read(line))
            except (ValueError, TypeError):
                log.warning("worker %s: an invalid message on its channel was ignored", self.id)
        return reports

    def dismiss(self) -> None:
        """Tell it that the host needs it no more: our direction of the channel ends, its own stays."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def how_it_ended(self) -> str:
        """What it said itself, or what its exit status says."""
        if self.report.failed:
            return self.report.failed
        if self.status is None:
            return "it is gone"
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"

    def likely_cause(self) -> str:
        """What most likely ended it, where neither it nor its host has said so, with a `; ` before it."""
        if self.report.failed or self.killed or self.status is None:
            return ""
        if self.status == -signal.SIGKILL:
            return "; the kernel does that when memory is short: lower max, or give the machine more"
        if self.status < 0:
            return " (a library crashed?)"
        where = "" if self.ready_at else " in prewarm()"
        return f"; did the bot end its process by os._exit(){where}? Let it return or raise"
