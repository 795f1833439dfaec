"""Log lines of hosts, workers and bots, in the gateway's form; `print` included.

The form is that of `gateway.logs`; structlog itself would cost each worker 100 ms of import.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import sysconfig
import threading
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from gateway.worker.tracebacks import structured

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LOG_VARIABLE = "GATEWAY_LOG"
"""Environment variable, "json" or "console": set by a gateway for the hosts that it starts."""
UNENDED = 0.5
"""Seconds after which a line that was begun and not ended is written."""
MAX_LINE = 8192
"""Characters of a printed line; a longer one becomes several."""

context: dict[str, str] = {}
"""What every line of this process bears: `service`, and in a worker the `session` of its call. A process has one call,
so that lines of the bot's threads bear it too."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = tuple(str(Path(__file__).parents[2] / package) + os.sep for package in ("gateway", "serializers"))


def log_to_stderr() -> None:
    """Log in the gateway's form, unless the bot's module has set up logging itself."""
    stream = sys.stderr.stream if isinstance(sys.stderr, PrintedLines) else sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def log_prints() -> None:
    """Make a log line at once of each line that the bot prints, a library logs by itself or Python warns of."""
    sys.stdout = PrintedLines(sys.stdout)
    sys.stderr = PrintedLines(sys.stderr)


def flush_prints(loop: asyncio.AbstractEventLoop) -> None:
    """From now on write what is printed without a newline after UNENDED, and not when the bot has ended."""
    for printed in (sys.stdout, sys.stderr):
        if isinstance(printed, PrintedLines):
            printed.begun = partial(_soon, loop, printed.flush)


def _soon(loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the process's end flushes
        loop.call_soon_threadsafe(loop.call_later, UNENDED, flush)  # a thread of the bot's may print, too


def line(event: str, level: str, created: float, error: BaseException | None = None, **fields: str) -> str:
    """One line of the log; for a person, a traceback follows on more."""
    known = {name: value for name, value in {**context, **fields}.items() if value}
    moment = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    if _as_json():
        entry: dict[str, Any] = {**known, "event": event, "level": level, "timestamp": moment}
        if error is not None:
            entry["exception"] = structured(error)
        return orjson.dumps(_encodable(entry)).decode()
    text = f"{moment} [{level:<9}] {event:<30} {' '.join(f'{name}={value}' for name, value in known.items())}".rstrip()
    if error is not None:
        text += "\n" + "".join(traceback.format_exception(error)).rstrip()
    return text


def describe(error: BaseException) -> str:
    """One line that says what was raised, and the line of the bot's that did it."""
    what = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
    place = _place(error)
    return f"{what} ({place})" if place else what


def without_our_frames(error: BaseException) -> BaseException:
    """Return the error with a traceback that begins with the bot's code and not with what called it."""
    trace = error.__traceback__
    while trace is not None and (_is_ours(trace) or _is_import(trace)):
        trace = trace.tb_next
    return error.with_traceback(trace)


class PrintedLines(io.TextIOBase):
    """Stands in for stdout or stderr: each line becomes one of the log's, and is written at once.

    stream: what it stands in for.
    begun: called when a line was begun and not ended, once until that is written.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.begun: Callable[[], None] | None = None
        self._begun = ""
        self._told = False
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write what is whole; the rest waits for its end, or for `flush`."""
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
            for each in whole:
                self._put(each)
            if len(self._begun) > MAX_LINE:
                self._put_rest()
            tell = bool(self._begun) and not self._told and self.begun is not None
            self._told = self._told or tell
        if tell and self.begun is not None:
            self.begun()
        return len(text)

    def flush(self) -> None:
        """Write what has been begun."""
        with self._lock:
            self._told = False
            self._put_rest()

    def _put_rest(self) -> None:
        rest, self._begun = self._begun, ""
        if rest:
            self._put(rest)

    def _put(self, text: str) -> None:
        now = datetime.now(UTC).timestamp()
        with contextlib.suppress(OSError, ValueError):  # its reader is gone: no reason for the bot to end
            for at in range(0, max(1, len(text)), MAX_LINE):
                self.stream.write(line(text[at : at + MAX_LINE], "info", now) + "\n")
            self.stream.flush()

    # What libraries ask of a stdout.

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def buffer(self) -> Any:
        return self.stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # which has a setter
        return self.stream.encoding


class _Lines(logging.Formatter):
    """A record as a line, with the `session` that its `extra` names, if any."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        session = getattr(record, "session", "")
        fields = {"session": session} if isinstance(session, str) and session else {}
        return line(record.getMessage(), record.levelname.lower(), record.created, error, **fields)


def _as_json() -> bool:
    return os.environ.get(LOG_VARIABLE, "console" if sys.stderr.isatty() else "json") == "json"


def _encodable(value: Any) -> Any:
    """Return a value without halves of surrogate pairs, which are in no UTF-8."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {key: _encodable(each) for key, each in value.items()}
        case list():
            return [_encodable(each) for each in value]
    return value


def _place(error: BaseException) -> str:
    """The last line that is the bot's own; else the last that is not ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<frozen", *_OURS))]
    own = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    for frame in (own or frames)[-1:]:
        return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_OURS)


def _is_import(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    return name.startswith("<frozen") or name.endswith("importlib/__init__.py")
