"""What runs inside a worker process: from the channel to its host, to a listening slot, to the exit status.

The channel is one end of a socket pair, given to us by the host. First it brings one line, the `WorkerSpec`. Then we
say our state, a JSON line each time that it changes and every HEARTBEAT, so that a process that is stuck is seen to be.
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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import orjson

from gateway.errors import BotError
from gateway.protocol.workers import WorkerState
from gateway.sockets import server_protocol
from gateway.worker.bot_loader import Bot, load
from gateway.worker.server import Slot

log = logging.getLogger(__name__)

LOG_VARIABLE = "GATEWAY_LOG"
"""Environment variable, "json" or "console": set by a gateway for the hosts that it starts."""

HEARTBEAT = 2.0
"""Seconds between two signs of life."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is told at its birth.

    id: its name. listen: `unix:/path.sock`, or the address of an interface, where it takes any free port.
    key: bearer of links. session: the only one to be served, "" for any. grace: see server.WORKER_GRACE.
    """

    id: str
    listen: str
    key: str
    session: str
    grace: float

    @property
    def path(self) -> str:
        """Of the unix socket, "" if it is none."""
        return self.listen.removeprefix("unix:") if self.listen.startswith("unix:") else ""

    def line(self) -> bytes:
        """For the channel."""
        return orjson.dumps(asdict(self)) + b"\n"


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself. port: where it listens, 0 on a unix socket. failed: why it could not start."""

    state: WorkerState = "starting"
    session: str = ""
    fence: int = 0
    port: int = 0
    failed: str = ""

    def line(self) -> bytes:
        """For the channel."""
        return orjson.dumps(asdict(self)) + b"\n"

    @staticmethod
    def read(line: bytes) -> Report:
        """The report in a line. Raises ValueError for what is none: bots share our process, and may write here."""
        fields = orjson.loads(line)
        if not isinstance(fields, Mapping) or set(fields) != set(Report.__slots__):
            raise ValueError("not a report")
        return Report(**fields)


def ignore_signals() -> None:
    """Ctrl-C and service managers signal the whole group; we obey our gateway.

    A handler and not SIG_IGN, which what a bot executes (ffmpeg, say) would inherit.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def log_to_stderr() -> None:
    """Unless the bot's module has set up logging itself. JSON lines as the gateway's, unless a person reads them."""
    handler = logging.StreamHandler()
    if os.environ.get(LOG_VARIABLE, "console" if sys.stderr.isatty() else "json") == "json":
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _JsonLines(logging.Formatter):
    """The keys of the gateway's own log; structlog would cost each worker 100 ms of import."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def run_worker(channel: socket.socket, bot: Bot) -> int:
    """Be a worker until the call, or the host, is over. Returns the exit status."""
    spec = _read_spec(channel)
    if spec is None:
        return 0
    log_to_stderr()
    if bot.prewarm is not None:
        try:
            bot.prewarm()
        except Exception as e:
            log.exception("prewarm() raised")
            fail(channel, f"prewarm() raised {type(e).__name__}: {e}")
            return 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(channel, spec, bot))
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
    """Tell the host why we shall not be ready."""
    with contextlib.suppress(OSError):
        channel.sendall(Report(failed=why.replace("\n", " ")[:500]).line())


def _remove(path: Path, *, host_gone: bool) -> None:
    """The socket; and its directory, if a host that was killed has left it to us, the last worker."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if host_gone:
            path.parent.rmdir()


def _at_end(channel: socket.socket) -> bool:
    """The host's end of the channel is closed, not only its direction of it."""
    try:
        channel.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def import_what_calls_need() -> None:
    """pydantic is 60 ms that no caller should wait for, nor the first worker's being ready."""
    import serializers.call_data  # noqa: F401  for its being imported; `Call.data` names it


def _read_spec(channel: socket.socket) -> WorkerSpec | None:
    data = b""
    while not data.endswith(b"\n"):
        more = channel.recv(4096)
        if not more:
            return None
        data += more
    return WorkerSpec(**orjson.loads(data))


async def _serve(channel: socket.socket, spec: WorkerSpec, bot: Bot) -> int:
    loop = asyncio.get_running_loop()
    channel.setblocking(False)
    current = Report()
    port = 0

    def report(state: WorkerState, session: str, fence: int) -> None:
        nonlocal current
        current = Report(state, session, fence, port)
        tell()

    def tell() -> None:
        # A full channel is a host that is stopped: it hears the next heartbeat. A closed one is a host that is gone.
        with contextlib.suppress(OSError):
            channel.send(current.line())

    def beat() -> None:
        tell()
        loop.call_later(HEARTBEAT, beat)

    slot = Slot(bot, spec.key, report, reserved=spec.session, grace=spec.grace)

    def host_gone() -> None:
        try:
            if channel.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(channel)
        gone.set()

    gone = asyncio.Event()
    loop.add_reader(channel, host_gone)
    protocol = server_protocol(slot.decide, plain=slot.plain)
    if spec.path:
        server = await loop.create_unix_server(protocol, spec.path)
    else:
        server = await loop.create_server(protocol, spec.listen, 0)
        port = server.sockets[0].getsockname()[1]
    report("ready", spec.session, 0)
    beat()
    loop.call_soon(import_what_calls_need)
    status = await _until_over(slot, gone)
    server.close()
    return status


async def _until_over(slot: Slot, gone: asyncio.Event) -> int:
    """Wait for the call's end; for the host's only while nobody calls."""
    host = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait((slot.finished, host), return_when=asyncio.FIRST_COMPLETED)
        while not slot.finished.done():
            if slot.free:
                return 0
            await asyncio.wait((slot.finished,), timeout=0.2)  # free again if the caller never comes
        return slot.finished.result()
    finally:
        host.cancel()


def main() -> int:
    """`python -m gateway.worker.process TARGET FD`: a worker of its own, where it cannot be forked."""
    ignore_signals()
    target, channel = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    os.set_inheritable(channel.fileno(), False)
    try:
        bot = load(target)
    except BotError as e:
        log_to_stderr()
        if e.__cause__ is not None:
            log.error("%s", e, exc_info=e.__cause__)
        fail(channel, str(e))
        return 2
    return run_worker(channel, bot)


if __name__ == "__main__":
    exit_now(main())
