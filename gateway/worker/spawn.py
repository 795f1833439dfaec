"""Make worker processes: forked by a fork server, or executed one by one where forking is not safe."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import orjson

from gateway.errors import BotError
from gateway.worker.logs import LOG_VARIABLE
from gateway.worker.process import fail

LOAD_TIMEOUT = 300.0
"""Seconds that importing the bot's module may take; some load a model."""

END_TIMEOUT = 2.0

MAX_BIRTHS = 64
"""Workers that may be asked for and not yet born. The fork server's control socket takes some 270 requests (Linux, the
default of net.core.wmem_default), and to fork more at once starts none of them sooner."""

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Numeric libraries start a thread per core when imported, which makes forking unsafe, and a worker 11 MB instead of
3 MB and 18 ms instead of 3 ms (numpy 2, OpenBLAS). A voice has 20 ms blocks: threads never pay."""

Born = Callable[[int], None]
"""A function that is called with the pid."""
Exited = Callable[[int, int], None]
"""A function that is called with the pid and the exit status, or minus the signal."""


class Spawner(Protocol):
    """What makes workers."""

    @property
    def capacity(self) -> int:
        """How many may be asked for now; more when one of them is born, or its channel has ended."""

    def spawn(self, channel: socket.socket, born: Born) -> None:
        """Make one, with this end of its channel, which is closed here. What fails shows at the other end."""

    async def close(self, seconds: float) -> None:
        """Make no more, and wait so long for the end of what was made. Those with a call go on."""


class ForkServer:
    """The host's side of `fork_server`.

    exited: called for each worker that has ended.
    lost: called when the fork server itself has ended, unasked.
    """

    def __init__(self, target: str, exited: Exited, lost: Callable[[], None]) -> None:
        self._target = target
        self._exited = exited
        self._lost = lost
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._births: deque[Born] = deque()
        self._forks_nothing = False
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[list[str]] = self._loop.create_future()

    async def start(self) -> list[str]:
        """Start it, and let it import the bot.

        Returns what workers would share and must not: if there is any, the fork server has ended.
        Raises BotError if the bot cannot be imported.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._control = ours
        with theirs:
            self._process = await _python("gateway.worker.fork_server", self._target, theirs)
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
        return MAX_BIRTHS - len(self._births)

    def spawn(self, channel: socket.socket, born: Born) -> None:
        """See Spawner."""
        with channel:
            if self._control is None:
                return
            try:
                socket.send_fds(self._control, [b"{}"], [channel.fileno()])
            except OSError:
                return  # the fork server is gone: the channel closes, and `lost` follows
            self._births.append(born)

    async def close(self, seconds: float) -> None:
        """See Spawner."""
        self._disconnect()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except TimeoutError:
                if self._forks_nothing:  # what the bot wants done at exit does not end
                    self._process.kill()

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
                self._loaded.set_exception(BotError(f"{self._target}: the process that imports it was killed"))
            else:
                self._lost()
            return
        match orjson.loads(data):
            case {"loaded": True, "shared": list(shared)}:
                if shared:
                    self._forks_nothing = True
                    self._disconnect()
                self._loaded.set_result(shared)
            case {"failed": str(why)}:
                self._forks_nothing = True
                self._disconnect()
                self._loaded.set_exception(BotError(why))
            case {"spawned": int(pid)}:
                self._births.popleft()(pid)
            case {"exited": int(pid), "status": int(status)}:
                self._exited(pid, status)


class ExecSpawner:
    """A Python process for each worker: slower to start, and safe for what threads have touched."""

    def __init__(self, target: str, exited: Exited) -> None:
        self._target = target
        self._exited = exited
        self._tasks: set[asyncio.Task[None]] = set()
        self._births = 0
        self._closed = False

    @property
    def capacity(self) -> int:
        """See Spawner."""
        return MAX_BIRTHS - self._births

    def spawn(self, channel: socket.socket, born: Born) -> None:
        """See Spawner."""
        self._births += 1
        task = asyncio.ensure_future(self._live(channel, born))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, seconds: float) -> None:
        """See Spawner."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _live(self, channel: socket.socket, born: Born) -> None:
        with channel:
            try:
                if self._closed:
                    return
                process = await _python("gateway.worker.process", self._target, channel)
            except OSError as e:
                fail(channel, f"cannot start a process: {e.strerror or e}")
                return
            finally:
                self._births -= 1
        born(process.pid)
        self._exited(process.pid, await process.wait())


async def _python(module: str, target: str, end: socket.socket) -> asyncio.subprocess.Process:
    """Run a module of ours in our own interpreter.

    -P: it is found where it is installed, though the user's project has a `gateway` too. -u: what a bot prints is not
    kept back. In a session of its own: Ctrl-C in our terminal is not meant for it.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-Pu",
        "-m",
        module,
        target,
        str(end.fileno()),
        pass_fds=(end.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        env=environment(os.environ),
        start_new_session=True,
    )


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What workers see of our environment.

    Without the gateway's settings, which hold keys; with one thread per numeric library, unless it says otherwise.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("GATEWAY_") or name == LOG_VARIABLE}
    return {**dict.fromkeys(ONE_THREAD, "1"), **kept}
