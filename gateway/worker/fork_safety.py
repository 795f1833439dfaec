"""Names what workers forked from one process would share, and must not.

A forked worker has the open files, the shared memory and the random generators of the process that imported the bot. A
connection among them carries the answers of all callers, and each process takes what it finds: one caller hears what
another was answered. So a bot that leaves any such thing when it is imported is not forked; each of its workers imports
it on its own.

`Baseline` is taken before the import. `reseed` is for each forked worker: the generators that all share, those
of `random`, numpy and torch, and the defaults of functions, begin differently in each.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from gateway.worker.fork_threads import ThreadWatch

HARMLESS = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
"""Files that have no position and no peer."""
MOST_NAMED = 8
"""Things that are told of one import; the rest is counted."""

KINDS = {
    "anon_inode:[eventpoll]": "an epoll (an event loop)",
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[timerfd]": "a timer",
    "anon_inode:inotify": "an inotify",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[signalfd]": "a signalfd",
    "anon_inode:[pidfd]": "a pidfd",
}


class Baseline:
    """What this process has before the bot is imported."""

    def __init__(self) -> None:
        self._files = set(_open_files().values())
        self._mappings = _shared_mappings()
        self._threads = ThreadWatch()

    def added(self) -> list[str]:
        """Name what there is by now that forked workers would share; empty if forking is safe."""
        found = [_describe(fd, link) for fd, link in _open_files().items() if link not in self._files]
        found = [name for name in found if name]
        if not found and _shared_mappings() - self._mappings:  # most of it has a file, too, and is named by that
            found = ["shared memory"]
        found += _own_generators()
        found += self._threads.stop()
        if len(found) > MOST_NAMED:
            found[MOST_NAMED:] = [f"{len(found) - MOST_NAMED} more"]
        return found


def reseed() -> None:
    """Give a forked worker random numbers of its own.

    Python seeds its own generator again in a forked child; numpy and torch do not.
    """
    random.seed()
    for name in ("numpy.random", "torch"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()
    for generator in _default_generators:
        generator.seed()


_default_generators: list[random.Random] = []
"""Generators that are the default of a function's argument, as in aiohttp's writer of WebSocket frames: no caller can
choose their seed. Found by `Baseline.added`."""


def _open_files() -> dict[int, str]:
    """Every open descriptor and what it leads to (proc(5)): for a socket or a pipe, its kind and its inode."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # no /proc
        for entry in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                found[int(entry.name)] = str(entry.readlink())
    return found


def _describe(fd: int, link: str) -> str:
    """The name of an open file for a person, "" for one that may well be shared."""
    if link.startswith("socket:"):
        return _describe_socket(fd)
    if link.startswith("pipe:"):
        return "a pipe"
    if link.startswith("anon_inode:"):
        return KINDS.get(link, f"an {link}")
    if link in HARMLESS:
        return ""
    if link.startswith(("/dev/shm/", "/memfd:")):  # noqa: S108  compared, not opened
        return "shared memory"
    if link.startswith("/dev/"):
        return f"the device {link}"
    try:
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    except OSError:
        return ""  # closed meanwhile
    return "" if appends else f"the open file {link}"  # each line that is appended lands whole: a log file


def _describe_socket(fd: int) -> str:
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"a socket that listens on {_address(copy.getsockname())}"
            return f"a connection to {_address(copy.getpeername())}"
    except OSError:  # not connected (yet), or of a kind without addresses
        return "a socket"


def _address(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return f"{host}:{address[1]}"
    return str(address) if isinstance(address, str) and address else "a process of its own"


def _shared_mappings() -> set[str]:
    """Memory that a forked child would write to together with its parent, a line of /proc/self/maps each."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return set()
    return {line for line in lines if line.split(maxsplit=2)[1].startswith("rw-s")}


def _own_generators() -> list[str]:
    """Random generators besides those that `reseed` knows: each worker would draw the same numbers from its copy.

    Those that `random.Random()` or numpy's `default_rng()` have made. They are not seeded again: one that was made with
    a seed is to give the same numbers, and nothing tells the two apart.
    """
    kinds: tuple[type, ...] = (random.Random,)
    known = {id(random.random.__self__), id(_rng_of_tempfile())}  # type: ignore[attr-defined]  # a bound method
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        kinds += (numpy.Generator, numpy.RandomState)
        known.add(id(numpy.mtrand._rand))
    found = [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, kinds) and id(thing) not in known and not isinstance(thing, random.SystemRandom)
    ]
    defaults = {id(value) for value in _defaults()} if found else set()
    _default_generators[:] = [thing for thing in found if id(thing) in defaults and isinstance(thing, random.Random)]
    found = [thing for thing in found if thing not in _default_generators]
    return [f"the random generator {_variable(thing) or type(thing).__name__}" for thing in found]


def _defaults() -> Iterator[object]:
    """What arguments of functions are by default."""
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            yield from thing.__defaults__ or ()
            yield from (thing.__kwdefaults__ or {}).values()


def _rng_of_tempfile() -> Any:
    """The generator of temporary names, which looks at the process id itself."""
    return getattr(getattr(tempfile, "_name_sequence", None), "_rng", None)


def _variable(thing: Any) -> str:
    """The module's variable that holds it, "" if none does."""
    for name, module in tuple(sys.modules.items()):
        for variable, value in tuple(getattr(module, "__dict__", {}).items()):
            if value is thing:
                return f"{name}.{variable}"
    return ""
