"""List the events that have not arrived: pending ones are tried again by themselves, dead ones are not.

  gateway events                    what is pending or dead, the oldest first
  gateway events replay             send all dead events again
  gateway events replay EVENT       send one again

Reads the database of `records`, so it works while no gateway runs; what is replayed then waits for one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gateway.outbox.undelivered import UndeliveredEvent, UndeliveredEvents
    from gateway.settings import Settings

T = TypeVar("T")

HELP = "list events that have not arrived; replay dead ones"
MOST_SHOWN = 1000
HEADER = ("event", "type", "endpoint", "state", "age", "attempts", "next", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list", "replay"], default="list", help="(default: list)")
    parser.add_argument("event", nargs="?", metavar="EVENT", help="of replay: one event's id (default: all dead ones)")
    parser.add_argument("--config", metavar="FILE", help="TOML settings (default: $GATEWAY_CONFIG)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from gateway.errors import UserError
    from gateway.settings import load

    if arguments.event and arguments.action == "list":
        raise UserError("EVENT: is for replay: gateway events replay EVENT")
    settings = load(arguments.config)
    if arguments.action == "list":
        events = _ask(settings, lambda events: events.oldest(MOST_SHOWN + 1))
        _print(events[:MOST_SHOWN], as_json=arguments.json)
        if len(events) > MOST_SHOWN and not arguments.json:
            print(f"… and more: these are the {MOST_SHOWN} oldest")
        return 0
    replayed = _ask(settings, lambda events: events.replay(arguments.event, time.time()))
    if arguments.json:
        print(json.dumps({"replayed": replayed}))
    elif replayed or not arguments.event:
        print(f"{replayed} will be sent again")
    else:
        print(f"no dead event is called {arguments.event}")
    return 1 if arguments.event and not replayed else 0


def _ask(settings: Settings, use: Callable[[UndeliveredEvents], Awaitable[T]]) -> T:
    """Call `use` with the events of these settings' database. Raises SettingsError if it cannot be asked."""
    from pathlib import Path

    from sqlalchemy.engine import make_url

    from gateway.errors import SettingsError
    from gateway.outbox.undelivered import UndeliveredEvents
    from gateway.records.database import AWAY, open_engine

    if not settings.records:
        raise SettingsError("records", "is not set: without a database there are no events")

    async def ask() -> T:
        engine = open_engine(settings.records)
        try:
            return await use(UndeliveredEvents(engine))
        finally:
            await engine.dispose()

    try:
        url = make_url(settings.records)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise SettingsError("records", "the database is not there: a gateway makes it when it starts")
        return asyncio.run(ask())
    except ImportError:
        raise SettingsError("records", 'needs a driver: pip install "carrier-stream-gateway[postgres]"') from None
    except AWAY as error:
        name = type(getattr(error, "orig", None) or error).__name__
        raise SettingsError("records", f"the database cannot be asked: {name}") from None


def _print(events: list[UndeliveredEvent], *, as_json: bool) -> None:
    from gateway.cli.table import print_table
    from gateway.records.base import rfc3339

    if as_json:
        shown = [
            {**asdict(each), "created": rfc3339(each.created), "next_at": rfc3339(each.next_at)} for each in events
        ]
        print(json.dumps(shown, indent=2))
        return
    if not events:
        print("every event has arrived")
        return
    now = time.time()
    rows = [
        (
            each.event_id,
            each.type,
            each.endpoint,
            each.state,
            duration(now - each.created),
            str(each.attempts),
            "-" if each.next_at is None else f"in {duration(each.next_at - now)}" if each.next_at > now else "waits",
            each.error or "-",
        )
        for each in events
    ]
    print_table([HEADER, *rows])


def duration(seconds: float) -> str:
    """Write it in the greatest unit that there is one of: "50 s", "3 min", "5 h", "2 d"."""
    units = ((86400, "d"), (3600, "h"), (60, "min"))
    size, unit = next(((size, unit) for size, unit in units if seconds >= size), (1, "s"))
    return f"{max(0, seconds) // size:.0f} {unit}"
