"""List calls, running and past: the newest at the bottom.

They come from the API of a running gateway (--url, with a key of its [api] keys: --key, else $GATEWAY_API_KEY), else
from the database of the settings (--config, else $GATEWAY_CONFIG, else gateway.db in this folder).

  gateway calls --follow            each change of a call is a line, until Ctrl-C
  gateway calls --json | jq .       whole records; with --follow a record on each line
  gateway calls --csv > calls.csv
  gateway calls --status ended --to +15550100 --since 2026-01-31T00:00:00Z

In the table, > is a call that came in and < one that the gateway has placed; the time is this machine's.
"""

from __future__ import annotations

import argparse
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.cli.arguments import gateway_url, whole
from gateway.cli.call_filters import add_filters, filters_of
from gateway.errors import UserError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from gateway.cli.call_sources import Call, CallSource

HELP = "list calls, running and past"
KEY_VARIABLE = "GATEWAY_API_KEY"
MOST = 10_000
"""Calls that are listed at most."""
PAGE = 200
LOOK_EVERY = 1.0
"""Seconds between two looks for what has changed."""
MOST_PAGES = 20
"""Pages that one look goes back: so many calls may come between two."""
COLUMNS = (
    ("time", 11), ("carrier", 7), ("", 1), ("from", 13), ("to", 13), ("state", 17), ("talk", 7),
)  # fmt: skip
"""And their widths: 75 characters with what is between."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", type=gateway_url, metavar="BASE", help="a running gateway")
    parser.add_argument("--key", metavar="K", help=f"a key of its [api] keys (default: ${KEY_VARIABLE})")
    parser.add_argument("--config", metavar="FILE", help="settings whose database is read (default: $GATEWAY_CONFIG)")
    parser.add_argument("--limit", type=whole(1, MOST), default=50, metavar="N", help="(default: %(default)s)")
    add_filters(parser)
    parser.add_argument("--follow", action="store_true", help="go on with what changes, until Ctrl-C")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print whole records as JSON")
    form.add_argument("--csv", action="store_true", help="print whole records as CSV")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    try:
        asyncio.run(_list(arguments))
    except KeyboardInterrupt:
        if not arguments.follow:
            raise
    return 0


async def _list(arguments: argparse.Namespace) -> None:
    printer = JsonPrinter(arguments.follow) if arguments.json else CsvPrinter() if arguments.csv else TablePrinter()
    wanted = filters_of(arguments)
    async with _source(arguments) as source:
        known = await newest(source, arguments.limit, wanted)
        printer.begin()
        printer.print(known)
        if arguments.follow:
            await _follow(source, printer, arguments.limit, wanted)


def _source(arguments: argparse.Namespace) -> AbstractAsyncContextManager[CallSource]:
    from gateway.cli.call_sources import database_url, from_api, from_database

    if not arguments.url:
        return from_database(database_url(arguments.config))
    key = arguments.key or os.environ.get(KEY_VARIABLE)
    if not key:
        raise UserError(f"--key: is missing: give a key of the gateway's [api] keys, or set {KEY_VARIABLE}")
    return from_api(arguments.url, key)


async def newest(source: CallSource, limit: int, wanted: Mapping[str, str]) -> list[Call]:
    """Return so many of the newest calls, the oldest of them first."""
    found: list[Call] = []
    cursor: str | None = None
    while len(found) < limit:
        calls, cursor = await source.page(min(PAGE, limit - len(found)), cursor, wanted)
        found += calls
        if cursor is None:
            break
    return found[::-1]


async def _follow(source: CallSource, printer: Printer, limit: int, wanted: Mapping[str, str]) -> None:
    import asyncio

    # A call that has not the wanted status yet may come to it.
    of_any_status = {name: value for name, value in wanted.items() if name != "status"}
    watch = Watch(await newest(source, limit, of_any_status), of_any_status)
    while True:
        await asyncio.sleep(LOOK_EVERY)
        changed = await watch.changed(source)
        printer.print([call for call in changed if call["status"] == wanted.get("status", call["status"])])


class Watch:
    """What was printed of each call last, so that each change is printed once. wanted: filters of new calls."""

    def __init__(self, calls: list[Call], wanted: Mapping[str, str]) -> None:
        self._wanted = wanted
        self._newest = max((_place(call) for call in calls), default=("", ""))
        self._open = {call["session_id"]: _state(call) for call in calls if call["status"] != "ended"}

    async def changed(self, source: CallSource) -> list[Call]:
        """Return what has changed since the last time, the oldest calls first."""
        new: list[Call] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            calls, cursor = await source.page(PAGE, cursor, self._wanted)
            new += [call for call in calls if _place(call) > self._newest]
            if cursor is None or len(calls) == 0 or _place(calls[-1]) <= self._newest:
                break
        seen = {call["session_id"] for call in new}
        older = [await source.get(session) for session in self._open if session not in seen]
        found = [call for call in older if call is not None and self._open[call["session_id"]] != _state(call)]
        changed = found + new[::-1]
        for call in changed:
            self._open[call["session_id"]] = _state(call)
            if call["status"] == "ended":
                del self._open[call["session_id"]]
        self._newest = max(self._newest, *map(_place, new), ("", ""))
        return changed


def _place(call: Call) -> tuple[str, str]:
    """As the list is sorted."""
    return (call["created_at"] or "", call["session_id"])


def _state(call: Call) -> tuple[str, str]:
    return (call["status"], call["end_reason"] or "")


# How they are printed.


class Printer(ABC):
    """Prints calls to the terminal, flushed, as the other end of a pipe may be waiting."""

    def begin(self) -> None:  # noqa: B027 - nothing is the rule
        """Print what comes first."""

    @abstractmethod
    def print(self, calls: list[Call]) -> None:
        """Print these."""


class TablePrinter(Printer):
    """A line each, of columns that do not move."""

    def begin(self) -> None:
        print(_line([name for name, _ in COLUMNS]), flush=True)

    def print(self, calls: list[Call]) -> None:
        for call in calls:
            print(_line(cells(call)), flush=True)


class JsonPrinter(Printer):
    """One array, or a record on each line if more are to come."""

    def __init__(self, lines: bool) -> None:
        self._lines = lines

    def print(self, calls: list[Call]) -> None:
        import json

        if not self._lines:
            print(json.dumps(calls, indent=2))
            return
        for call in calls:
            print(json.dumps(call), flush=True)


class CsvPrinter(Printer):
    """RFC 4180, with a line of names. The body is JSON in its cell."""

    def begin(self) -> None:
        from gateway.records.base import Record

        self._write(list(Record(session_id="").to_dict()))

    def print(self, calls: list[Call]) -> None:
        import json

        for call in calls:
            self._write([json.dumps(value) if isinstance(value, dict) else value for value in call.values()])
        sys.stdout.flush()

    @staticmethod
    def _write(row: list[Any]) -> None:
        import csv

        csv.writer(sys.stdout, lineterminator="\n").writerow(row)


def cells(call: Call) -> list[str]:
    """Return what the table says of a call."""
    return [
        _local_time(call["created_at"]),
        str(call["carrier"]),
        {"inbound": ">", "outbound": "<"}.get(call["direction"], ""),
        str(call["from"]),
        str(call["to"]),
        str((call["status"] == "ended" and call["end_reason"]) or call["status"]),
        _length(call["duration_s"]),
    ]


def _line(row: list[str]) -> str:
    """One row. What a caller wrote may hold what moves a terminal's cursor; none of that is printed."""
    clean = ["".join(char if char.isprintable() else "?" for char in cell) for cell in row]
    fitting = [
        (cell if len(cell) <= width else cell[: width - 1] + "…").ljust(width)
        for cell, (_, width) in zip(clean, COLUMNS, strict=True)
    ]
    return " ".join([*fitting[:-1], fitting[-1].strip().rjust(COLUMNS[-1][1])])


def _local_time(written: str | None) -> str:
    from datetime import datetime

    if not written:
        return "-"
    return datetime.fromisoformat(written.replace("Z", "+00:00")).astimezone().strftime("%m-%d %H:%M")


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
