"""The workers of one host: as many ready as were asked for, the dead replaced, the stuck killed.

No audio comes here. Each worker's channel brings its state; its end is the worker's end. Who is stuck is found by
`watchdog`, what their ends mean is said by `end_log`, when to try again by `starts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway.errors import BotError
from gateway.protocol.workers import LinkProtocol, Running, Worker, WorkerEnd
from gateway.worker.credentials import Credentials
from gateway.worker.end_log import EndLog
from gateway.worker.handle import WorkerHandle
from gateway.worker.options import HostOptions, worker_url
from gateway.worker.process import WorkerReport, WorkerSpec
from gateway.worker.spawn import END_TIMEOUT, Spawner, load_bot
from gateway.worker.starts import Backoff, StartTimes
from gateway.worker.watchdog import Watchdog

log = logging.getLogger(__name__)

STABLE_AFTER = 1.0
"""Seconds for which a worker must have been ready if its death is an accident, and no failed start."""
CHECK_EVERY = 1.0
"""Seconds between two looks at all workers."""
EXIT_WAIT = 0.5
"""Seconds after the end of a worker's channel within which its exit status is still waited for."""


class Fleet:
    """See the module's docstring.

    changed: called, synchronously, whenever a worker's state has changed.
    """

    def __init__(self, options: HostOptions, run_dir: str, link_key: str, changed: Callable[[], None]) -> None:
        self._options = options
        self._run_dir = run_dir
        self._link_key = link_key
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._spawner: Spawner | None = None
        self._processes: dict[str, WorkerHandle] = {}
        self._by_pid: dict[int, WorkerHandle] = {}
        self._wanted: dict[str, None] = {}  # sessions to start a worker for, in the order in which they came
        self.protocol: LinkProtocol = "pcm"
        """What the links of its workers speak; known once the bot has been imported."""
        self.wrapup_seconds = options.wrapup_seconds
        """A worker may take this long to end after its call; then it is killed."""
        self._count = 0
        self._backoff = Backoff()
        self._start_times = StartTimes()
        self._end_log = EndLog(self._backoff)
        self._watchdog = Watchdog(self._start_times, self._kill)
        self._retry: asyncio.TimerHandle | None = None
        self._checks: asyncio.TimerHandle | None = None
        self._reload: asyncio.Task[None] | None = None
        self._draining = False
        self._stopped = False
        self._empty = asyncio.Event()
        self._empty.set()

    # What there is.

    def workers(self) -> tuple[Worker, ...]:
        """List all of them, as they are now."""
        return tuple(p.as_worker() for p in self._processes.values() if p.url or p.report.state == "starting")

    def running(self) -> tuple[Running, ...]:
        """List the sessions that are being served."""
        return tuple(p.as_running() for p in self._processes.values() if p.report.state == "busy")

    @property
    def talking(self) -> bool:
        """True if there is a call, or a bot that wraps one up."""
        return any(p.talking for p in self._processes.values())

    @property
    def ends(self) -> Counter[WorkerEnd]:
        """How many ended how, of those that should not have."""
        return self._end_log.counts

    @property
    def start_seconds(self) -> float:
        """How long a start of this bot takes, 0 while that is not known."""
        now = self._loop.time()
        return self._start_times.longest(
            now - p.started_at for p in self._processes.values() if p.report.state == "starting"
        )

    # Orders.

    async def start(self) -> None:
        """Import the bot and begin. Raises BotError if the bot cannot be imported."""
        await self._load()
        self._check(self._loop.time())

    def start_worker_for(self, session: str) -> None:
        """Start a worker for this session at once, beyond those kept warm; none while we drain."""
        if self._draining or any(p.report.session == session for p in self._processes.values()):
            return
        if len(self._wanted) >= self._options.max:  # as many have a unit of our cap: the oldest has given it back
            del self._wanted[next(iter(self._wanted))]
        self._wanted[session] = None
        self._top_up()

    def drain(self) -> None:
        """Start no more; those without a call end now."""
        self._draining = True
        self._wanted.clear()
        for process in self._processes.values():
            process.dismiss()

    async def stop(self) -> None:
        """End what is idle, and kill what of it does not end. A worker with a call goes on without us."""
        self._stopped = True
        self.drain()
        for timer in (self._retry, self._checks):
            if timer is not None:
                timer.cancel()
        if self._reload is not None:
            self._reload.cancel()
        try:
            await asyncio.wait_for(self._empty.wait(), END_TIMEOUT)
        except TimeoutError:
            for process in list(self._processes.values()):
                if process.report.state in ("starting", "ready"):
                    self._kill(process, "did not end with its host")
        if self._spawner is not None:
            await self._spawner.close(0.0 if self.talking else END_TIMEOUT)

    # Making workers.

    async def _load(self) -> None:
        options = self._options
        loaded = await load_bot(
            options.target,
            options.service_host,
            self._exited,
            self._fork_server_lost,
            accounts=options.credentials,
            python=options.python,
        )
        self._spawner, self.protocol = loaded.spawner, loaded.protocol
        if loaded.shared:
            log.warning(
                "%s: importing it leaves %s, which forked workers would share; each worker is a process of its own, "
                "which starts more slowly (open it in prewarm() instead)",
                *(options.target, ", ".join(loaded.shared)),
            )
        self._top_up()

    @property
    def _credentials(self) -> tuple[Credentials, ...]:
        return self._options.credentials if self.protocol == "relay" else ()

    def _fork_server_lost(self) -> None:
        self._spawner = None
        if not self._stopped:
            log.warning("the fork server has ended; starting another")
            self._reload = asyncio.ensure_future(self._load_again())

    async def _load_again(self) -> None:
        while True:
            try:
                await self._load()
                return
            except (BotError, OSError) as e:
                now = self._loop.time()
                delay = self._backoff.failed(now, now)
                log.warning("cannot start a fork server: %s; trying again in %.1f s", e, delay)
                await asyncio.sleep(delay)

    def _top_up(self) -> None:
        """Start what is missing, as far as that can be now."""
        if self._spawner is None or self._draining:
            return
        now = self._loop.time()
        wait = self._backoff.wait(now)
        if wait > 0:  # also for a caller who waits: what fails does not get better by being tried at once
            if self._retry is None:
                self._retry = self._loop.call_later(wait, self._try_again)
            return
        try:
            self._start_missing(self._spawner)
        except OSError as e:  # no descriptor is left, or no memory
            delay = self._backoff.failed(now, now)
            log.warning("cannot start a worker: %s; trying again in %.1f s", e.strerror or e, delay)
            self._top_up()

    def _start_missing(self, spawner: Spawner) -> None:
        """Raises OSError if one cannot be started."""
        while self._wanted and spawner.capacity:
            session = next(iter(self._wanted))
            self._spawn(spawner, session)
            del self._wanted[session]
        idle = sum(p.idle for p in self._processes.values())
        live = sum(p.report.state != "done" for p in self._processes.values())
        missing = min(self._options.warm - idle, self._options.max - live)
        for _ in range(min(missing, spawner.capacity)):
            self._spawn(spawner, "")

    def _try_again(self) -> None:
        self._retry = None
        self._top_up()

    def _spawn(self, spawner: Spawner, session: str) -> None:
        ours, theirs = socket.socketpair()
        self._count += 1
        name = f"w{self._count}"
        options = self._options
        listen = f"unix:{self._run_dir}/{name}.sock" if options.local else options.listen
        ours.setblocking(False)
        # The first of several that fail together is heard; the others, and those after it, would only repeat it.
        quiet = self._backoff.failures > 0 or any(p.report.state == "starting" for p in self._processes.values())
        service, grace = options.service_host, options.grace_seconds
        spec = WorkerSpec(name, listen, self._link_key, session, service, grace, quiet, self._credentials)
        ours.send(spec.line())
        now = self._loop.time()
        process = WorkerHandle(name, listen if options.local else "", ours, now, now, WorkerReport(session=session))
        self._processes[name] = process
        self._empty.clear()
        self._loop.add_reader(ours, self._readable, process)
        spawner.spawn(theirs, partial(self._started, process))
        self._changed()

    # Hearing of them.

    def _readable(self, process: WorkerHandle) -> None:
        reports = process.read()
        if reports is None:
            self._lost(process)
            return
        process.heard = self._loop.time()
        for report in reports:
            self._reported(process, report)

    def _reported(self, process: WorkerHandle, report: WorkerReport) -> None:
        if report.failed:  # at once, not when its process has ended: another may be asked for meanwhile
            process.retry_seconds = self._backoff.failed(process.started_at, self._loop.time())
            report = replace(report, session=process.report.session)
        before, process.report = process.report, report
        if report == before:
            return
        if report.port:
            process.url = worker_url(self._options.advertise or self._options.listen, report.port)
        if report.state == "ready" and not process.ready_at:
            process.ready_at = self._loop.time()
            self._start_times.add(process.ready_at - process.started_at)
            self._loop.call_later(STABLE_AFTER, self._note_success, process)
        if report.state == "ready" and self._draining:
            process.dismiss()  # it was held for a caller who never came
        if report.state == "done" and process.wrapup is None:
            seconds = self.wrapup_seconds
            why = f"had not ended {seconds:g} s after its call"
            process.wrapup = self._loop.call_later(seconds, self._kill, process, why, "overstayed")
        self._changed()
        self._top_up()

    def _lost(self, process: WorkerHandle) -> None:
        """Take a worker that has ended out of the pool, at once."""
        if process.lost:
            return
        self._loop.remove_reader(process.channel)
        process.channel.close()
        process.lost = True
        del self._processes[process.id]
        if not self._processes:
            self._empty.set()
        if process.wrapup is not None:
            process.wrapup.cancel()
        if self._options.local:
            Path(process.url.removeprefix("unix:")).unlink(missing_ok=True)
        if process.retry_seconds is None and self._ended_early(process):
            process.retry_seconds = self._backoff.failed(process.started_at, self._loop.time())
        if process.status is None:
            self._loop.call_later(EXIT_WAIT, self._note_end, process)  # the status comes by another way
        else:
            self._note_end(process)
        self._changed()
        self._top_up()

    def _started(self, process: WorkerHandle, pid: int, failed: str) -> None:
        """Note that a worker has a process, or why it has none: then its channel ends, too."""
        if failed:
            self._reported(process, WorkerReport(failed=failed))
            return
        process.pid = pid
        if not process.end_noted:
            self._by_pid[pid] = process
        self._top_up()  # there is room for another request

    def _exited(self, pid: int, status: int) -> None:
        process = self._by_pid.pop(pid, None)
        if process is not None:
            process.status = status
            if process.lost:
                self._note_end(process)
            else:  # its last words are on their way; but a child of the bot's may hold its channel open for good
                self._loop.call_later(EXIT_WAIT, self._lost, process)

    def _ended_early(self, process: WorkerHandle) -> bool:
        """True for a worker that could not live, not for one that had an accident or was told to end."""
        if process.killed or self._draining or process.report.state in ("busy", "done"):
            return False
        return not process.ready_at or self._loop.time() - process.ready_at < STABLE_AFTER

    def _note_success(self, process: WorkerHandle) -> None:
        if not process.lost or process.talking:
            self._backoff.succeeded()
            self._top_up()

    def _note_end(self, process: WorkerHandle) -> None:
        self._by_pid.pop(process.pid, None)
        self._end_log.note(process, draining=self._draining, now=self._loop.time())

    # Ending them.

    def _kill(self, process: WorkerHandle, why: str, end: WorkerEnd | None = None) -> None:
        if process.lost or process.killed or process.status is not None:
            return
        self._end_log.note_kill(process, why, end)
        process.killed = why
        if process.pid:
            with contextlib.suppress(ProcessLookupError):  # dead already, and its channel held open by a child of it
                os.kill(process.pid, signal.SIGKILL)
            # Do not wait for the exit status: the fork server may be gone, and then nothing reports it.
            self._loop.call_later(EXIT_WAIT, self._lost, process)
        else:
            process.dismiss()

    def _check(self, due: float) -> None:
        """Look for workers, and a fork server, that are stuck, and for workers that could not be started."""
        now = self._loop.time()
        self._checks = self._loop.call_later(CHECK_EVERY, self._check, now + CHECK_EVERY)  # even if this one raises
        self._watchdog.check(list(self._processes.values()), now - due, now)
        if self._spawner is not None and now - due < CHECK_EVERY:  # else we were stopped, and have not read its answers
            self._spawner.kill_if_hung(now)
        self._top_up()
