"""Makes worker processes: forked, or executed one by one where forking is unsafe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson

from gateway.errors import BotError
from gateway.protocol.workers import LinkProtocol
from gateway.worker.credentials import Credentials, variables_of
from gateway.worker.interpreter import check_python, environment

log = logging.getLogger(__name__)

FORKS = sys.platform == "linux"
"""Elsewhere, as on macOS, system libraries start threads: forking is unsafe."""
LOAD_TIMEOUT = 300.0
"""Seconds that importing the bot's module may take; some load a model."""

END_TIMEOUT = 2.0

MAX_PENDING = 64
"""Workers that may be asked for and not yet have a process. The fork server's control socket takes some 270 requests
(Linux, the default of net.core.wmem_default), and to fork more at once starts none of them sooner."""

FORK_LIMIT = 30.0
"""Seconds within which a fork server must answer the next request. It takes milliseconds; where the bot holds a large
model, a second."""

Started = Callable[[int, str], None]
"""A function that is called with the pid; or with 0 and why there is no process."""
Exited = Callable[[int, int], None]
"""A function that is called with the pid and the exit status, or minus the signal."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a fork server tells of the bot that it has imported.

    shared: what forked workers would share, and must not.
    protocol: what its links speak.
    """

    shared: tuple[str, ...]
    protocol: LinkProtocol


class Spawner(Protocol):
    """What makes workers."""

    @property
    def capacity(self) -> int:
        """How many may be asked for now; more when one of them has a process, or its channel has ended."""

    def spawn(self, channel: socket.socket, started: Started) -> None:
        """Make one, with this end of its channel, which is closed here. What fails shows at the other end, too."""

    def kill_if_hung(self, now: float) -> None:
        """End what makes workers if it does not answer; it counts as lost then. now: loop time."""

    async def close(self, seconds: float) -> None:
        """Make no more, and wait so long for the end of what was made. Those with a call go on."""


class ForkServer:
    """The host's side of `fork_server`.

    service: the service host, for the log.
    python: the interpreter.
    exited: called for each worker that has ended.
    lost: called when the fork server itself has ended, unasked.
    """

    def __init__(
        self, target: str, service: str, exited: Exited, lost: Callable[[], None], python: str = sys.executable
    ) -> None:
        self._target = target
        self._python = python
        self._service = service
        self._exited = exited
        self._lost = lost
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._pending: deque[Started] = deque()
        self._waits_since = 0.0  # when something was asked for, or answered while more was to be
        self._forks_nothing = False
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[ImportReport] = self._loop.create_future()
        self._ending: asyncio.Task[None] | None = None

    async def start(self, credentials: Mapping[str, str]) -> ImportReport:
        """Start it, and let it import the bot. If there is something that workers would share, it has ended.

        credentials: variables for the environment of a bot that speaks a carrier's wire.
        Raises BotError if the bot cannot be imported.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._control = ours
        try:
            with theirs:
                self._process = await _run(
                    self._python, "gateway.worker.fork_server", self._target, theirs, {}, self._service
                )
            with contextlib.suppress(OSError):  # it has ended already, which shows at the channel's end
                ours.send(orjson.dumps(dict(credentials)))
        except BaseException:
            ours.close()
            raise
        self._loop.add_reader(ours, self._readable)
        try:
            return await asyncio.wait_for(self._loaded, LOAD_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            raise BotError(f"{self._target}: importing it took more than {LOAD_TIMEOUT:g} s") from None
        except asyncio.CancelledError:  # the host is to end
            self._process.kill()
            raise
        finally:
            if not self._loaded.done() or self._loaded.cancelled() or self._loaded.exception() is not None:
                await self.close(END_TIMEOUT)

    @property
    def capacity(self) -> int:
        """See Spawner."""
        return MAX_PENDING - len(self._pending)

    def spawn(self, channel: socket.socket, started: Started) -> None:
        """See Spawner."""
        with channel:
            if self._control is None:
                return
            try:
                socket.send_fds(self._control, [b"{}"], [channel.fileno()])
            except OSError:
                return  # the fork server is gone: the channel closes, and `lost` follows
            if not self._pending:
                self._waits_since = self._loop.time()
            self._pending.append(started)

    def kill_if_hung(self, now: float) -> None:
        """See Spawner."""
        if self._control is None or self._process is None or self._process.returncode is not None:
            return
        if self._pending and now - self._waits_since > FORK_LIMIT:
            log.warning("the fork server has not answered for %g s (stopped?): killed", FORK_LIMIT)
            self._process.kill()
            self._disconnect()
            self._lost()

    async def close(self, seconds: float) -> None:
        """See Spawner."""
        self._disconnect()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except TimeoutError:
                if self._forks_nothing:  # what the bot wants done at exit does not end
                    self._process.kill()

    async def _ended_while_importing(self) -> None:
        assert self._process is not None
        status = await self._process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"has ended, exit status {status} (by os._exit()?)"
        if not self._loaded.done():
            self._loaded.set_exception(BotError(f"{self._target}: the process that imports it {how}"))

    def _disconnect(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

    def _readable(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            if not self._loaded.done():
                self._ending = asyncio.ensure_future(self._ended_while_importing())
            else:
                self._lost()
            return
        match orjson.loads(data):
            case {"loaded": True, "shared": list(shared), "protocol": ("pcm" | "relay") as protocol}:
                if shared:
                    self._forks_nothing = True
                    self._disconnect()
                self._loaded.set_result(ImportReport(tuple(shared), protocol))
            case {"failed": str(why)}:
                self._forks_nothing = True
                self._disconnect()
                self._loaded.set_exception(BotError(why))
            case {"spawned": int(pid)}:
                self._answered(pid, "")
            case {"not_forked": str(why)}:
                self._answered(0, f"cannot fork a process: {why}")
            case {"exited": int(pid), "status": int(status)}:
                self._exited(pid, status)

    def _answered(self, pid: int, why: str) -> None:
        self._waits_since = self._loop.time()
        self._pending.popleft()(pid, why)


@dataclass(frozen=True, slots=True)
class LoadedBot:
    """A bot that was imported once.

    spawner: makes its workers.
    protocol: what their links speak.
    shared: for this each is a process of its own.
    """

    spawner: Spawner
    protocol: LinkProtocol
    shared: tuple[str, ...] = ()


async def load_bot(
    target: str,
    service: str,
    exited: Exited,
    lost: Callable[[], None],
    *,
    accounts: tuple[Credentials, ...] = (),
    python: str = "",
) -> LoadedBot:
    """Import the bot, and find the way in which its workers can be made.

    Raises BotError if it cannot be imported.

    accounts: whose credentials a bot gets that speaks a carrier's wire.
    python: the interpreter of the bot's own environment; "": ours.
    """
    if python:
        await check_python(python)
    python = python or sys.executable
    server = ForkServer(target, service, exited, lost, python)
    loaded = await server.start(variables_of(accounts))
    if FORKS and not loaded.shared:
        return LoadedBot(server, loaded.protocol)
    await server.close(END_TIMEOUT)
    given = variables_of(accounts) if loaded.protocol == "relay" else {}
    return LoadedBot(ExecSpawner(target, exited, given, python), loaded.protocol, loaded.shared)


class ExecSpawner:
    """A Python process for each worker: slower to start, and safe for what threads have touched.

    credentials: variables for their environments.
    python: the interpreter.
    """

    def __init__(self, target: str, exited: Exited, credentials: Mapping[str, str], python: str) -> None:
        self._target = target
        self._credentials = credentials
        self._python = python
        self._exited = exited
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._closed = False

    @property
    def capacity(self) -> int:
        """See Spawner."""
        return MAX_PENDING - self._pending

    def spawn(self, channel: socket.socket, started: Started) -> None:
        """See Spawner."""
        self._pending += 1
        task = asyncio.ensure_future(self._live(channel, started))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kill_if_hung(self, now: float) -> None:
        """Nothing to do: each worker is watched by itself."""

    async def close(self, seconds: float) -> None:
        """See Spawner."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _live(self, channel: socket.socket, started: Started) -> None:
        with channel:
            try:
                if self._closed:
                    return
                process = await _run(self._python, "gateway.worker.process", self._target, channel, self._credentials)
            except OSError as e:
                started(0, f"cannot start a process: {e.strerror or e}")
                return
            finally:
                self._pending -= 1
        started(process.pid, "")
        self._exited(process.pid, await process.wait())


async def _run(
    python: str, module: str, target: str, end: socket.socket, variables: Mapping[str, str], *more: str
) -> asyncio.subprocess.Process:
    """Run a module of ours.

    -P: it is found where it is installed, though the user's project has a `gateway` too. -u: what a bot prints is not
    kept back. In a session of its own: Ctrl-C in our terminal is not meant for it.
    """
    return await asyncio.create_subprocess_exec(
        python,
        "-Pu",
        "-m",
        module,
        target,
        str(end.fileno()),
        *more,
        pass_fds=(end.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        env=environment(os.environ) | dict(variables),
        start_new_session=True,
    )
