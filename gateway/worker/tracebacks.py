"""Puts an error into structlog's JSON form, without structlog.

Importing that stops the loop of a worker with a call for 100 ms, and for more on a busy machine, before the line is
written and another worker takes the call.
"""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import Any

MAX_FRAMES = 50
"""As structlog has it: of more, the first and the last are kept."""


def structured(error: BaseException) -> list[dict[str, Any]]:
    """Return the error and what led to it, without the values of variables: those hold audio and secrets."""
    return _chain(error, set())


def _chain(error: BaseException, seen: set[int]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    each: BaseException | None = error
    is_cause = False
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        entries.append(_entry(each, seen, is_cause=is_cause))
        is_cause = each.__cause__ is not None and each.__cause__.__traceback__ is not None
        context = None if each.__suppress_context__ else each.__context__
        each = each.__cause__ if is_cause else context
        if each is not None and each.__traceback__ is None:
            break
    return entries


def _entry(error: BaseException, seen: set[int], *, is_cause: bool) -> dict[str, Any]:
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return {
        "exc_type": type(error).__name__,
        "exc_value": _text(error),
        "exc_notes": [_text(note) for note in getattr(error, "__notes__", ())],
        "syntax_error": _syntax(error) if isinstance(error, SyntaxError) else None,
        "is_cause": is_cause,
        "frames": _frames(error),
        "is_group": bool(grouped),
        "exceptions": [_chain(one, seen) for one in grouped],
    }


def _syntax(error: SyntaxError) -> dict[str, Any]:
    return {
        "offset": error.offset or 0,
        "filename": error.filename or "?",
        "line": error.text or "",
        "lineno": error.lineno or 0,
        "msg": error.msg,
    }


def _frames(error: BaseException) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        with contextlib.suppress(OSError):  # the working directory is gone
            name = str(Path(name).absolute()) if name and not name.startswith("<") else name
        frames.append({"filename": name or "?", "lineno": line, "name": frame.f_code.co_name})
    half = MAX_FRAMES // 2
    if len(frames) > MAX_FRAMES:
        skipped = {"filename": "", "lineno": -1, "name": f"Skipped frames: {len(frames) - 2 * half}"}
        frames[half:-half] = [skipped]
    return frames


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as e:
        return f"<str-error {str(e)!r}>"
