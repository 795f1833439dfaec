"""Files that a command writes when it is over: asked for before it begins, and lost without losing the report."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from gateway.errors import UserError


def check_file(flag: str, path: str) -> None:
    """Raise UserError if this file cannot be written. What is in it stays."""
    file = Path(path)
    existed = file.exists()
    try:
        if existed and not file.is_file() and not file.is_dir():
            return  # a pipe would block until it has a reader, and a terminal is written to at the end
        with file.open("ab"):
            pass
        if not existed:
            file.unlink()
    except OSError as error:
        raise UserError(f"{flag}: {path}: {error.strerror}") from None


def check_folder(flag: str, path: str) -> None:
    """Make this folder, if it is not there. Raises UserError if no file can be written in it."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{flag}: {path}: {error.strerror}") from None


def save(command: str, flag: str, path: str, write: Callable[[], None]) -> bool:
    """Write the file. False: it could not be written after all, which has been said on stderr in one line."""
    try:
        write()
    except OSError as error:
        said = f"gateway {command}: {flag}: {path} was not written: {error.strerror or os.strerror(error.errno or 0)}"
        print(said, file=sys.stderr)
        return False
    return True
