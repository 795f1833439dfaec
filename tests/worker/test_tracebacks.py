"""An error's JSON form is structlog's, which the gateway's own log has."""

from __future__ import annotations

import subprocess
import sys

import pytest
from structlog.tracebacks import ExceptionDictTransformer

from gateway.worker.tracebacks import structured


def recurse(n: int) -> None:
    if n:
        recurse(n - 1)
    raise ValueError("deep")


def grouped() -> None:
    errors = []
    for text in ("int('x')", "1 / 0"):
        try:
            eval(text)
        except Exception as e:
            errors.append(e)
    raise ExceptionGroup("both", errors)


def noted() -> None:
    error = KeyError("k")
    error.add_note("by the way")
    raise error


def chained(how: str) -> None:
    try:
        noted()
    except KeyError as e:
        if how == "cause":
            raise RuntimeError("because") from e
        if how == "none":
            raise RuntimeError("alone") from None
        raise RuntimeError("meanwhile")  # noqa: B904  the context is what is tried


class Unprintable(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")


def unprintable() -> None:
    raise Unprintable


KINDS = {
    "plain": noted,
    "group": grouped,
    "cause": lambda: chained("cause"),
    "context": lambda: chained("context"),
    "suppressed": lambda: chained("none"),
    "deep": lambda: recurse(120),
    "syntax": lambda: compile("async def bot(call)", "bot.py", "exec"),
    "unprintable": unprintable,
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_structlog_makes_of_it(kind: str) -> None:
    with pytest.raises(BaseException) as raised:
        KINDS[kind]()
    error = raised.value
    theirs = ExceptionDictTransformer(show_locals=False)((type(error), error, error.__traceback__))
    assert structured(error) == theirs


def test_a_worker_imports_no_structlog_for_it() -> None:
    """It would stop the loop of a call for 100 ms."""
    code = (
        "import os, sys\nos.environ['GATEWAY_LOG'] = 'json'\nfrom gateway.worker import logs\n"
        "logs.line('x', 'error', 0.0, ValueError())\nassert 'structlog' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
