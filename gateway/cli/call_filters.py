"""The filters of `gateway calls`: those of GET /v1/calls, by the same names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.records.base import Filters

NAMES = ("status", "direction", "carrier", "service_host", "from", "to", "since", "until")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add their flags."""
    group = parser.add_argument_group("filters", "A call is listed if all that are given apply.")
    group.add_argument("--status", choices=("queued", "ringing", "answered", "ending", "ended"))
    group.add_argument("--direction", choices=("inbound", "outbound"))
    group.add_argument("--carrier", type=_carrier, metavar="NAME")
    group.add_argument("--service-host", metavar="NAME")
    group.add_argument("--from", metavar="NUMBER")
    group.add_argument("--to", metavar="NUMBER")
    group.add_argument("--since", type=_time, metavar="TIME", help="that began then or later: 2026-01-31T12:00:00Z")
    group.add_argument("--until", type=_time, metavar="TIME", help="that began before")


def filters_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return those that were given, as the API is asked for them."""
    return {name: value for name in NAMES if (value := getattr(arguments, name))}


def as_filters(wanted: Mapping[str, str]) -> Filters:
    """Return them as the database is asked for them."""
    from gateway.api.models import unix_time
    from gateway.records.base import Filters

    return Filters(
        status=wanted.get("status", ""),
        direction=wanted.get("direction", ""),
        carrier=wanted.get("carrier", ""),
        service_host=wanted.get("service_host", ""),
        from_number=wanted.get("from", ""),
        to_number=wanted.get("to", ""),
        since=unix_time(wanted["since"]) if "since" in wanted else None,
        until=unix_time(wanted["until"]) if "until" in wanted else None,
    )


def _carrier(text: str) -> str:
    from gateway.carriers import CARRIERS

    if text not in CARRIERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no carrier: {', '.join(CARRIERS)}")
    return text


def _time(text: str) -> str:
    from gateway.api.models import unix_time

    if unix_time(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write it like 2026-01-31T12:00:00Z")
    return text
