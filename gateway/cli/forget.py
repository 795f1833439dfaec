"""Forget a telephone number: mask it in records and events, with what was said in its calls; remove its recordings.

For good: what becomes known of those calls later is masked, too. Recordings on this machine are removed now, those of
other nodes and of calls that run by their gateways, within seconds or when they start. A running gateway does the same
at DELETE /v1/callers/{number}.

Exit status: 0 = done, also if there was nothing to forget, 1 = a recording could not be removed, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
import sys

HELP = "mask a number in all records, and remove its recordings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="NUMBER", help="as it is in the records: E.164, or what the carrier wrote")
    parser.add_argument("--config", metavar="FILE", help="settings whose database it is (default: $GATEWAY_CONFIG)")


def run(arguments: argparse.Namespace) -> int:
    import asyncio
    from pathlib import Path

    from gateway.call_recording.folder import remove_sessions
    from gateway.cli.call_sources import database_url, open_store
    from gateway.errors import RecordsUnavailable, SettingsError
    from gateway.node.wire_records import remove_wires
    from gateway.records.base import Forgotten
    from gateway.settings import load

    records = database_url(arguments.config)

    async def forget() -> Forgotten:
        async with open_store(records) as store:
            return await store.forget(arguments.number)

    try:
        forgotten = asyncio.run(forget())
    except RecordsUnavailable as error:
        raise SettingsError("records", str(error)) from None
    failed: list[Path] = []

    def tell(path: Path, error: OSError) -> None:
        failed.append(path)
        print(f"gateway forget: {path}: {error.strerror}", file=sys.stderr)

    services = load(arguments.config).services
    removed = remove_sessions((service.recordings for service in services), forgotten.recordings, tell)
    remove_wires((service.record for service in services), forgotten.recordings, tell)
    print(f"{len(forgotten.recordings)} calls masked, {removed} recordings removed")
    return 1 if failed else 0
