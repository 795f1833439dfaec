"""The worker host: keeps one bot's workers warm, offers them, outlives its gateway.

`run_host(options)` from Python; `python -m gateway.worker.host`, with options as `options` says, for a parent that
starts one. It ignores SIGTERM and SIGINT, which a terminal and service managers send to the whole group. It ends

- when its gateway has left and the calls are done;
- on its parent's SIGUSR1, or death, when the calls are done: a gateway that is started again starts hosts of its own,
  and new calls are for those, or `max` would count twice;
- when all gateways are gone and none has taken it back for `grace_seconds`. On another machine than theirs it waits for
  the first one as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import sys
import time

from gateway.errors import UserError
from gateway.protocol import workers as wire
from gateway.secrecy import hide_memory
from gateway.worker import logs
from gateway.worker.fleet import Fleet
from gateway.worker.options import FAILURE_FD_VARIABLE, PARENT_FD_VARIABLE, HostOptions
from gateway.worker.places import check_listen, make_run_dir
from gateway.worker.process import ignore_signals
from gateway.worker.registration import Registration

log = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR1
"""Sent by the parent: end when the calls are over. Before its handler is installed it ends the process, signal(7)."""


async def run_host(options: HostOptions, drain: asyncio.Event | None = None) -> None:
    """Be a worker host until it is over.

    drain: set by the caller to end it when the running calls are done.
    Raises UserError if the bot cannot be imported, if there is no place for the workers' sockets, or if no gateway
    takes the host.
    """
    ignore_signals()
    logs.context.update(service=options.service_host)
    run_dir = ""
    if options.local:
        run_dir = make_run_dir(options.run_dir)
    else:
        check_listen(options.listen)
    host = _Host(options, run_dir)
    try:
        await host.run(drain or asyncio.Event())
    finally:
        if run_dir and not host.talking:
            shutil.rmtree(run_dir, ignore_errors=True)


class _Host:
    def __init__(self, options: HostOptions, run_dir: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._id = options.host_id or f"host-{secrets.token_hex(6)}"
        self._epoch = time.time_ns() // 1_000_000
        self._link_key = secrets.token_urlsafe(32)
        self._fleet = Fleet(options, run_dir, self._link_key, self._workers_changed)
        self._registrations = [
            Registration(url, options.key, self, return_to_left=not options.local) for url in options.gateways
        ]
        self._news = asyncio.Event()
        self._drains = False
        self._beat_due = False
        self._alone_since = float("inf")
        self._seq = 0
        self._lag = 0.0
        self._lag_timer: asyncio.TimerHandle | None = None

    async def run(self, drain: asyncio.Event) -> None:
        tasks = [asyncio.ensure_future(self._drain_when_told(drain))]
        try:
            if not await self._started(drain):
                return
            if self._options.local:  # a host elsewhere may be started before there is a gateway
                self._alone_since = self._loop.time()
            tasks += [asyncio.ensure_future(registration.run()) for registration in self._registrations]
            self._measure_lag(self._loop.time())
            why = await self._wait_until_over(drain)
            log.info("the worker host ends: %s", why)
        finally:
            if self._lag_timer is not None:
                self._lag_timer.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._fleet.stop()

    async def _started(self, drain: asyncio.Event) -> bool:
        """Import the bot; False if we were told to end meanwhile, as an import may take minutes."""
        start, told = asyncio.ensure_future(self._fleet.start()), asyncio.ensure_future(drain.wait())
        try:
            await asyncio.wait((start, told), return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return False
            start.result()
            return True
        finally:
            for each in (start, told):
                each.cancel()
            await asyncio.gather(start, told, return_exceptions=True)

    @property
    def talking(self) -> bool:
        return self._fleet.talking

    async def _drain_when_told(self, drain: asyncio.Event) -> None:
        await drain.wait()
        self._drains = True
        for registration in self._registrations:
            registration.drain()
        self._fleet.drain()
        self._news.set()

    async def _wait_until_over(self, drain: asyncio.Event) -> str:
        """Wait for the end, and say which.

        Raises UserError if no gateway takes the host, and none ever has.
        """
        while True:
            self._news.clear()
            if all(r.refused for r in self._registrations):
                raise UserError("; ".join(f"{r.url}: {r.refused}" for r in self._registrations))
            if not self._fleet.talking:
                if drain.is_set():
                    return "drained"
                if self._options.local and all(r.left for r in self._registrations):
                    return "its gateway has ended"
                alone = self._loop.time() - self._alone_since
                if not self._connected and alone >= self._options.grace_seconds:
                    return f"no gateway for {alone:.0f} s"
            try:
                await asyncio.wait_for(self._news.wait(), 0.25)
            except TimeoutError:
                pass

    @property
    def _connected(self) -> bool:
        return any(r.connected for r in self._registrations)

    def _measure_lag(self, due: float) -> None:
        now = self._loop.time()
        self._lag = max(now - due, self._lag * 0.9)
        self._lag_timer = self._loop.call_later(0.1, self._measure_lag, now + 0.1)

    def _workers_changed(self) -> None:
        """Beat at once, but once for all that changes in one turn of the loop."""
        self._news.set()
        if not self._beat_due:
            self._beat_due = True
            self._loop.call_soon(self._beat)

    def _beat(self) -> None:
        self._beat_due = False
        for registration in self._registrations:
            registration.beat()

    # registration.RegisteredHost

    def register_message(self) -> wire.Register:
        options, running = self._options, self._fleet.running()
        # A host that drains says so next, and until that is heard nothing is to be claimed here.
        cap = max(1, min(len(running), options.max)) if self._drains else options.max
        return wire.Register(
            host=self._id,
            epoch=self._epoch,
            service_host=options.service_host,
            protocol=self._fleet.protocol,
            cap=cap,
            workers=self._fleet.workers(),
            running=running,
            link_key=self._link_key,
            seq=self._next_seq(),
            start_ms=self._start_ms,
        )

    def beat_message(self) -> wire.Beat:
        return wire.Beat(
            self._fleet.workers(), round(self._lag * 1000), self._fleet.ends, self._next_seq(), self._start_ms
        )

    @property
    def _start_ms(self) -> int:
        return round(self._fleet.start_seconds * 1000)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def start_worker_for(self, session: str) -> None:
        self._fleet.start_worker_for(session)

    def set_wrapup_seconds(self, seconds: float) -> None:
        self._fleet.wrapup_seconds = seconds

    def connection_changed(self) -> None:
        if self._connected:
            self._alone_since = float("inf")
        elif self._alone_since == float("inf"):
            self._alone_since = self._loop.time()
        self._news.set()


def main() -> int:
    """`python -m gateway.worker.host`."""
    hide_memory()
    ignore_signals()
    logs.log_to_stderr()
    failure_fd = os.environ.pop(FAILURE_FD_VARIABLE, "")  # not for bots
    parent_fd = os.environ.pop(PARENT_FD_VARIABLE, "")

    async def host(options: HostOptions) -> None:
        drain = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, drain.set)
        if parent_fd:
            _watch_parent(int(parent_fd), drain)
        await run_host(options, drain)

    try:
        options = HostOptions.from_environment()
        with asyncio.Runner() as runner:
            runner.run(host(options))
    except UserError as e:
        _say_why(f"{e}\n", failure_fd)
        return 2
    return 0


def _watch_parent(fd: int, drain: asyncio.Event) -> None:
    """Drain when the parent has died. fd: nothing is written to it, so to be readable is its end."""
    os.set_inheritable(fd, False)  # nor do bots hold it, or wait for it
    loop = asyncio.get_running_loop()

    def died() -> None:
        loop.remove_reader(fd)
        log.debug("the gateway that started this host is gone: no new calls")
        drain.set()

    loop.add_reader(fd, died)


def _say_why(line: str, failure_fd: str) -> None:
    """Tell the parent, if it has asked for it and lives; else the person at the keyboard."""
    try:
        os.write(int(failure_fd), line.encode())
    except (ValueError, OSError):
        sys.stderr.write(line)


if __name__ == "__main__":
    sys.exit(main())
