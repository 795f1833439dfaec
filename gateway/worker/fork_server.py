"""The fork server: imports the bot's module once and forks a worker for each request.

Exec'd by the host, with one thread and no event loop, as only such a process may fork safely. What was imported is
shared with the workers, page by page, until one writes to it; the garbage collector would, so everything is moved out
of its sight first.

Control channel (SOCK_SEQPACKET; a JSON object each): host → us: first the credentials for a bot on a carrier's wire, by
name; then for each worker an empty object with its channel attached.
Us → host: `{"loaded": true, "shared": [what makes forking unsafe], "protocol": of the links}` or `{"failed": why}`;
`{"spawned": pid}` or `{"not_forked": why}` for each request, in the same order; `{"exited": pid, "status": n}` with n
as `os.waitstatus_to_exitcode` gives it. If forking is unsafe we end. At the control channel's end nothing more is
forked, and we end after our last child.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import select
import signal
import socket
import sys
from typing import Any

import orjson

from gateway.errors import BotError
from gateway.worker.bot_loader import Bot, hidden_neighbours, is_ours, load, names_pipecat
from gateway.worker.fork_safety import Baseline, reseed
from gateway.worker.logs import context, log_prints, log_to_stderr, without_our_frames
from gateway.worker.process import exit_now, ignore_signals, import_what_calls_need, run_worker

log = logging.getLogger(__name__)

MAX_CREDENTIALS = 65536
"""Bytes of JSON."""


def main() -> int:
    """`python -m gateway.worker.fork_server TARGET CONTROL_FD SERVICE`."""
    ignore_signals()
    control = socket.socket(fileno=int(sys.argv[2]))
    os.set_inheritable(control.fileno(), False)
    context.update(service=sys.argv[3])
    log_prints()
    credentials = _credentials(control)
    if names_pipecat(sys.argv[1]):  # its source tells what it is before it is imported; and its module may read them
        os.environ.update(credentials)
    baseline = Baseline()
    try:
        bot = load(sys.argv[1])
    except BotError as e:
        _tell(control, {"failed": str(e)})
        if e.__cause__ is not None:  # else the line that the host ends with says all
            log_to_stderr()
            log.error("%s", e, exc_info=without_our_frames(e.__cause__))
        return 2
    if bot.protocol != "relay":
        for name in credentials.keys() & os.environ.keys():
            del os.environ[name]
    for text in hidden_neighbours(sys.argv[1]) if not is_ours(bot) else ():
        log_to_stderr()
        log.warning("%s", text)
    gc.collect()  # what the import has left behind may hold something open
    shared = baseline.added()
    _tell(control, {"loaded": True, "shared": shared, "protocol": bot.protocol})
    if shared:
        return 0
    gc.freeze()
    return _serve(control, bot)


def _credentials(control: socket.socket) -> dict[str, str]:
    """For a bot that speaks a carrier's wire, by their names in the environment."""
    with contextlib.suppress(OSError, ValueError):  # the host is gone: the poll that follows sees it, too
        return dict(orjson.loads(control.recv(MAX_CREDENTIALS)))
    return {}


def _serve(control: socket.socket, bot: Bot) -> int:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    children: set[int] = set()
    host, prepared = True, False
    while host or children:
        for fd, _ in poll.poll():
            if fd == wake_read:
                _drain(wake_read)
                _reap(children, control if host else None)
                continue
            request = _request(control)
            if request is None:
                host = False
                poll.unregister(control)
                control.close()  # where the host lives, it learns by this that no request is read any more
                continue
            pid = _fork(control, request)
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                os.close(wake_read)
                os.close(wake_write)
                reseed()
                exit_now(run_worker(request[0], bot))
            if pid is not None:
                children.add(pid)
                prepared = prepared or _prepare(bot)
    return 0


def _request(control: socket.socket) -> list[socket.socket] | None:
    """The channel of a worker to be forked; None when the host is gone.

    Empty if the channel was lost on the way: without a free descriptor the kernel drops it, recvmsg(2), MSG_CTRUNC.
    """
    try:
        data, fds, _, _ = socket.recv_fds(control, 1024, 1)
    except OSError:
        return None
    return [socket.socket(fileno=fd) for fd in fds] if data else None


def _fork(control: socket.socket, request: list[socket.socket]) -> int | None:
    """Fork a worker, or fail to, and tell the host.

    Returns the worker's pid, 0 in the worker, None if forking is impossible now.
    """
    pid: int | None = None
    try:
        if not request:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        pid = os.fork()
    except OSError as e:  # no descriptor, process or memory is left; the host tries again later
        _tell(control, {"not_forked": e.strerror or str(e)})
    else:
        if pid == 0:
            return 0
        _tell(control, {"spawned": pid})
    for channel in request:
        channel.close()
    return pid


def _prepare(bot: Bot) -> bool:
    """Import what calls need once here, behind the first worker, which is waited for.

    False: try again after the next one.
    """
    try:
        import_what_calls_need(bot)
    except OSError:  # no descriptor is left to read the modules by
        return False
    gc.freeze()
    return True


def _reap(children: set[int], control: socket.socket | None) -> None:
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            if control is not None:
                _tell(control, {"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(orjson.dumps(message))
    except OSError:  # the host is gone; its end of the channel says so to the next poll
        pass


if __name__ == "__main__":
    exit_now(main())
