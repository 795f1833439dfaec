"""A worker process: from the channel to its host, to a listening server, to the exit status.

The channel is one end of a socket pair, given to us by the host. First it brings one line, the `WorkerSpec`. Then we
report our state, a JSON line whenever it changes and every HEARTBEAT, so that a process that is stuck is seen to be.
At its end the host is gone: an idle worker ends too, one with a caller finishes the call first.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import orjson

from gateway.errors import BotError
from gateway.event_loop import loop_factory
from gateway.protocol.workers import WorkerState
from gateway.sockets import server_protocol
from gateway.worker import logs
from gateway.worker.bot_loader import Bot, load
from gateway.worker.call_server import CallServer
from gateway.worker.credentials import Credentials, variables_of
from gateway.worker.pcm_call_server import PcmCallServer
from gateway.worker.relay_call_server import RelayCallServer
from gateway.worker.runner_arguments import import_arguments

log = logging.getLogger(__name__)

HEARTBEAT = 2.0
"""Seconds between two signs of life."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is told when it starts.

    id: its name.
    listen: `unix:/path.sock`, or the address of an interface, where it takes any free port.
    key: the bearer key of links.
    session: the only one to be served, "" for any.
    service: the service host, for the log.
    grace: see call_server.WORKER_GRACE.
    quiet: others have failed before: a failure is told to the host only, without its traceback in the log.
    credentials: for a bot that speaks the carrier's own wire.
    """

    id: str
    listen: str
    key: str
    session: str
    service: str
    grace: float
    quiet: bool
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)

    @property
    def path(self) -> str:
        """The path of the unix socket, "" if it is none."""
        return self.listen.removeprefix("unix:") if self.listen.startswith("unix:") else ""

    def line(self) -> bytes:
        """For the channel."""
        return orjson.dumps(asdict(self)) + b"\n"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's state.

    port: where it listens, 0 on a unix socket.
    failed: why it could not start.
    """

    state: WorkerState = "starting"
    session: str = ""
    fence: int = 0
    port: int = 0
    failed: str = ""

    def line(self) -> bytes:
        """For the channel."""
        return orjson.dumps(asdict(self)) + b"\n"

    @staticmethod
    def read(line: bytes) -> WorkerReport:
        """Read the report in a line.

        Raises ValueError for anything else: the bot shares the process and could write to the channel.
        """
        fields = orjson.loads(line)
        if not isinstance(fields, Mapping) or set(fields) != set(WorkerReport.__slots__):
            raise ValueError("not a report")
        return WorkerReport(**fields)


CHANNEL_FIELDS = " ".join((*WorkerSpec.__slots__, *WorkerReport.__slots__))
"""Fields of the channel's two messages. A host compares them with those of the bot's own environment: a gateway of
another version there is refused."""


def ignore_signals() -> None:
    """Ignore what Ctrl-C and service managers send to the whole group; we obey our gateway.

    A handler and not SIG_IGN, which what a bot executes (as ffmpeg) would inherit.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def run_worker(channel: socket.socket, bot: Bot) -> int:
    """Be a worker until the call, or the host, is over. Returns the exit status."""
    spec = _read_spec(channel)
    if spec is None:
        return 0
    logs.context.update(service=spec.service)
    logs.log_to_stderr()
    os.environ.update(variables_of(spec.credentials))
    if bot.prewarm is not None:
        try:
            bot.prewarm()
        except BaseException as e:  # also SystemExit: the host shall know why
            why = f"prewarm() raised {logs.describe(e)}"
            if not spec.quiet:
                log.error("%s", why, exc_info=logs.without_our_frames(e))
            fail(channel, why)
            return 1
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(channel, spec, bot))
    except OSError as e:  # its address is taken or gone, no descriptor is left
        fail(channel, f"cannot listen on {spec.listen}: {e.strerror or e}")
        return 1
    finally:
        if spec.path:
            _remove(Path(spec.path), host_gone=_at_end(channel))


def exit_now(status: int) -> NoReturn:
    """End this process: what the bot wants done at exit is done, and what it printed is printed.

    Not by `sys.exit`, which would wait for the bot's threads, and tear the interpreter down object by object: in a
    forked worker that copies the fork server's pages only to free them.
    """
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def fail(channel: socket.socket, why: str) -> None:
    """Tell the host why this worker will not be ready."""
    with contextlib.suppress(OSError):
        channel.sendall(WorkerReport(failed=why.replace("\n", " ")[:500]).line())


def _remove(path: Path, *, host_gone: bool) -> None:
    """Remove the socket; and its directory, if a host that was killed has left it to us, the last worker."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if host_gone:
            path.parent.rmdir()


def _at_end(channel: socket.socket) -> bool:
    """True if the host's end of the channel is closed, not only its direction of it."""
    try:
        channel.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def import_what_calls_need(bot: Bot) -> None:
    """Import pydantic: 60 ms that no caller should wait for, nor the first worker's readiness."""
    if bot.protocol == "relay":
        import_arguments()
    import serializers.call_data  # noqa: F401  for its being imported; `Call.data` names it


def _read_spec(channel: socket.socket) -> WorkerSpec | None:
    data = b""
    while not data.endswith(b"\n"):
        more = channel.recv(4096)
        if not more:
            return None
        data += more
    fields = orjson.loads(data)
    return WorkerSpec(**fields | {"credentials": tuple(Credentials(**each) for each in fields["credentials"])})


class _Channel:
    """The worker's end of the channel: reports go out; its end says that the host is gone."""

    def __init__(self, end: socket.socket) -> None:
        self.port = 0
        """Where the worker listens, 0 on a unix socket."""
        self.host_gone = asyncio.Event()
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._report = WorkerReport()
        end.setblocking(False)
        self._loop.add_reader(end, self._readable)

    def report(self, state: WorkerState, session: str, fence: int) -> None:
        """Tell the host of a change; what is logged from now on bears this session."""
        logs.context["session"] = session
        self._report = WorkerReport(state, session, fence, self.port)
        self._send()

    def beat(self) -> None:
        """Tell the host every HEARTBEAT that this process is not stuck."""
        self._send()
        self._loop.call_later(HEARTBEAT, self.beat)

    def _send(self) -> None:
        # A full channel is a host that is stopped: it hears the next heartbeat. A closed one is a host that is gone.
        with contextlib.suppress(OSError):
            self._end.send(self._report.line())

    def _readable(self) -> None:
        try:
            if self._end.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._loop.remove_reader(self._end)
        self.host_gone.set()


async def _serve(end: socket.socket, spec: WorkerSpec, bot: Bot) -> int:
    """Listen, report, and serve one call.

    Returns the exit status. Raises OSError if it cannot listen.
    """
    loop = asyncio.get_running_loop()
    channel = _Channel(end)
    call_server: CallServer
    if bot.protocol == "relay":
        call_server = RelayCallServer(bot, spec.key, channel.report, reserved=spec.session, grace=spec.grace)
        call_server.credentials = spec.credentials
    else:
        call_server = PcmCallServer(bot, spec.key, channel.report, reserved=spec.session, grace=spec.grace)
    protocol = server_protocol(call_server.decide, plain=call_server.plain)
    if spec.path:
        server = await loop.create_unix_server(protocol, spec.path)
    else:
        server = await loop.create_server(protocol, spec.listen, 0)
        channel.port = server.sockets[0].getsockname()[1]
    logs.flush_prints(loop)
    channel.report("ready", spec.session, 0)
    channel.beat()
    loop.call_soon(import_what_calls_need, bot)
    status = await _until_over(call_server, channel.host_gone)
    server.close()
    return status


async def _until_over(call_server: CallServer, gone: asyncio.Event) -> int:
    """Wait for the call's end, and while there is no call for the host's."""
    host = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait((call_server.finished, host), return_when=asyncio.FIRST_COMPLETED)
        while not call_server.finished.done():
            if call_server.free:
                return 0
            await asyncio.wait((call_server.finished,), timeout=0.2)  # free again if the caller never comes
        return call_server.finished.result()
    finally:
        host.cancel()


def main() -> int:
    """`python -m gateway.worker.process TARGET FD`: a worker of its own, where it cannot be forked."""
    ignore_signals()
    logs.log_prints()
    target, channel = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    os.set_inheritable(channel.fileno(), False)
    try:
        bot = load(target)
    except BotError as e:
        logs.log_to_stderr()
        log.error("%s", e, exc_info=logs.without_our_frames(e.__cause__) if e.__cause__ is not None else None)
        fail(channel, str(e))
        return 2
    return run_worker(channel, bot)


if __name__ == "__main__":
    exit_now(main())
