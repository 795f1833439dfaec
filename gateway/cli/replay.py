"""Play one recorded call against a running gateway, message by message, with its timing.

Exit status: 0 = played to its end, 1 = the gateway refused or broke it, 2 = called wrongly.
"""

from __future__ import annotations

import argparse

HELP = "play one recorded call against a gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixture", metavar="FIXTURE", help="a recording: FILE.jsonl")
    parser.add_argument("--url", required=True, metavar="BASE_URL", help="where the gateway is")
    parser.add_argument("--public-url", metavar="URL", help="what its settings call it, if that is another URL")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli.call import show
    from gateway.errors import RecordingError, UserError
    from gateway.recording import Recording
    from gateway.simulator import Credentials, replay

    try:
        recording = Recording.read(arguments.fixture)
    except RecordingError as error:
        raise UserError(str(error)) from None
    try:
        report = asyncio.run(
            replay(recording, arguments.url, credentials=Credentials.from_env(), public_url=arguments.public_url)
        )
    except RecordingError as error:
        raise UserError(f"{arguments.fixture}: {error}") from None
    show(report)
    return 0 if report.outcome == "completed" else 1
