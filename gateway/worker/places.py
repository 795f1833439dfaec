"""Where workers listen: a directory short enough for unix sockets, or an address."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator

from gateway.errors import UserError

MAX_PATH = 103
"""Bytes of a unix socket's path: 107 on Linux, 103 on macOS (`sun_path` of unix(7), less its final zero)."""
ADDED_PATH_LENGTH = len("/gw-xxxxxxxx/w9999999.sock")
"""What we add to the directory: mkdtemp's name, and a worker's."""


def make_run_dir(wanted: str) -> str:
    """Make a directory for the workers' sockets, for this user alone: that decides who may connect.

    wanted: where to make it, "" for a temporary directory; if the path of that is too long, another one.
    Raises UserError if there is no place for it.
    """
    trouble = ""
    for parent in [wanted] if wanted else _temporary():
        if len(os.fsencode(parent)) + ADDED_PATH_LENGTH > MAX_PATH:
            trouble = trouble or f"{parent} is too long for the paths of unix sockets ({MAX_PATH} bytes)"
            continue
        try:
            return tempfile.mkdtemp(prefix="gw-", dir=parent)  # 0700
        except OSError as e:
            trouble = trouble or f"{parent}: {e.strerror or e}"
    raise UserError(f"no place for the workers' sockets: {trouble}; name a short, writable directory in TMPDIR")


def _temporary() -> Iterator[str]:
    yield tempfile.gettempdir()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield runtime
    yield from ("/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108  mkdtemp makes it safe


def check_listen(address: str) -> None:
    """Raise UserError if workers cannot listen on this address."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, where in found:
            with socket.socket(family, kind, number) as sock:
                sock.bind(where)
    except OSError as e:
        raise UserError(
            f"--listen {address}: {e.strerror or e}; name an address of this machine, as `ip address` shows them"
        ) from None
