"""A private PostgreSQL server in a temporary folder, on a unix socket that only this user reaches."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60.0
"""For initdb and for the start, on a busy machine."""


def find_bin() -> Path | None:
    """Return where PostgreSQL's programs are, None if they are not installed."""
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server; gives the folder of its socket. It refuses to run as root, so root runs it as `nobody`."""
    programs = find_bin()
    assert programs is not None, "PostgreSQL is not installed"
    folder = Path(tempfile.mkdtemp(prefix="gw-pg-", dir="/tmp"))  # a unix socket's path is short
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"

    def program(name: str, *arguments: str) -> None:
        subprocess.run(
            [programs / name, *arguments], check=True, timeout=SECONDS, cwd=folder, env={"LC_ALL": "C", "PATH": "/bin"},
            stdout=subprocess.DEVNULL, **who,
        )  # fmt: skip

    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
    try:
        program("initdb", "-D", str(data), "-U", "gateway", "-A", "trust", "-E", "UTF8", "-N")
        program("pg_ctl", "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield str(folder)
        finally:
            program("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def url(folder: str, database: str = "postgres") -> str:
    """Return the URL of one of its databases, as it stands in the settings."""
    return f"postgresql+asyncpg://gateway@/{database}?host={folder}"
