"""How the tests' own process logs."""

from __future__ import annotations

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback


def log_plainly() -> None:
    """Configure structlog as it is by default, with plain tracebacks.

    Its default draws each in a frame where Rich is installed, as Schemathesis has it, with source and local variables:
    over a second of CPU for one error of a Redis client.
    """
    structlog.reset_defaults()
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors[:-1], ConsoleRenderer(exception_formatter=plain_traceback)])
