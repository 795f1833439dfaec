"""Play one recorded call against a running gateway, message by message, with its timing.

Exit status: 0 = played to its end, 1 = the gateway refused or broke it, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.cli.arguments import gateway_url

if TYPE_CHECKING:
    from gateway.recording import Recording
    from gateway.simulator import CallReport

HELP = "play one recorded call against a gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixture", metavar="FIXTURE", help="a recording: FILE.jsonl")
    parser.add_argument("--url", required=True, type=gateway_url, metavar="BASE_URL", help="where the gateway is")
    parser.add_argument(
        "--public-url", type=gateway_url, metavar="URL", help="what its settings call it, if that is another URL"
    )


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli.call import is_whole, show
    from gateway.cli.carriers import simulated_carrier
    from gateway.errors import RecordingError, UserError
    from gateway.recording import Recording
    from gateway.simulator.replay import script_of

    try:
        recording = Recording.read(arguments.fixture)
    except RecordingError as error:
        raise UserError(str(error)) from None
    try:
        simulated_carrier(recording.carrier)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{arguments.fixture}: its carrier {error}") from None
    try:
        script_of(recording)
    except RecordingError as error:
        raise UserError(f"{arguments.fixture}: {error}") from None
    report = asyncio.run(_play(recording, arguments.url, arguments.public_url))
    show(report)
    return 0 if is_whole(report) else 1


async def _play(recording: Recording, url: str, public_url: str | None) -> CallReport:
    from gateway.simulator import Credentials, replay
    from gateway.simulator.http import knock

    await knock(url)
    return await replay(recording, url, credentials=Credentials.from_env(), public_url=public_url)
