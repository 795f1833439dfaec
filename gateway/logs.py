"""Structured logs: one line an event, for a console or as JSON. Nothing private: no paths, bodies or digits.

JSON unless stderr is a terminal: whoever reads by eye sits at one, whoever collects does not, and nobody has to say.
What a task of a call logs bears its session, carrier and service, by structlog's context variables.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

MAX_VALUE = 500
"""Characters of one value. Carriers and workers have a say in some (a status, a reason): not in how long a line is."""


def configure(*, json: bool | None = None, level: int = logging.INFO) -> None:
    """Send our own and the libraries' logs to stderr in one form. json: None means: unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        one_line,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(as_json)],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up only when something is wrong: at INFO, uvicorn logs every WebSocket's path, tokens and all,
    # even with access_log off; httpx every URL; Twilio's client the numbers it dials.
    root.setLevel(logging.WARNING)
    for ours in ("gateway", "serializers"):
        logging.getLogger(ours).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def _renderers(as_json: bool) -> list[Processor]:
    """Tracebacks without local variables, which structlog would show: those hold audio, digits and secrets."""
    if as_json:
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        return [tracebacks, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Bound every text, and escape what would break the line or command a terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            shown = value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"
            event[name] = shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")
    return event
