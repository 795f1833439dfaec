"""The four carriers' REST APIs on this machine, so that dial-out can be tried without an account.

Prints the settings that lead to them, for a file of yours or for a new one (--write), and a line for each step of each
call. What is called rings, is answered, opens its stream and talks; the gateway may hang it up, transfer it or press
digits by the same API. The number that is dialled, or that a call is transferred to, says what becomes of it; any other
is answered after 1 s and stays:

  +15550000101   answers, talks, hangs up after 20 s
  +15550000102   answers, talks, stays until you hang up
  +15550000103   rings for 10 s, then the same
  +15550000104   answers and hangs up at once
  +15550000110   is busy
  +15550000111   rings until the timeout, is never answered
  +15550000112   cannot be reached: failed
  +15550000120   is an answering machine: a greeting of 3 s
  +15550000121   is a fax machine
  +15550000130   answers; no transfer of it is answered
  +15550000140   the API refuses the number
  +15550000141   the API refuses the country
  +15550000142   the API refuses the credentials
  +15550000143   the API answers 429
  +15550000144   the API answers 500
  +15550000145   the API answers 503
  +15550000146   the API places the call and never answers
  +15550000147   the API places no call and never answers
  +15550000148   the answer webhook comes before the API's answer
  +15550000149   the API answers after 4 s
  +15550000150   the API places the call, and a proxy answers 502

Exit status: 0 = ended by Ctrl-C, 1 = the port is taken, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.arguments import MOST_PORT, whole
from gateway.errors import UserError

if TYPE_CHECKING:
    from gateway.simulator.rest import PlacedCall

HELP = "the carriers' REST APIs on this machine, to try dial-out"

PORT = 8089
KEPT = 50
"""Calls whose audio is kept, as a test would look at it; older ones are forgotten."""
DIALOUT = """\
[api]
keys = ["{key}"]

[dialout]
allow = ["+1555"]
callers = ["+15550100"]
"""
ENDED_BY = {
    "caller": "by your side",
    "callee": "by the number called",
    "api": "by the REST API",
    "carrier": "by the carrier",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=whole(0, MOST_PORT),
        default=PORT,
        metavar="P",
        help="of 127.0.0.1; 0: any (default: %(default)s)",
    )
    parser.add_argument(
        "--write", metavar="FILE", help="write the settings, too: a new file, for gateway serve --config"
    )
    parser.add_argument("--save", metavar="DIR", help="write what was heard in each call as WAV")


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli.output import check_folder

    if arguments.save:
        check_folder("--save", arguments.save)
    if arguments.write and Path(arguments.write).exists():
        raise UserError(f"--write: {arguments.write} is there already: name a new file, or remove it")
    asyncio.run(_serve(arguments))
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    from gateway.simulator.rest import SimulatedCarriers, usual_pace

    over = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, over.set)
    folder = Path(arguments.save) if arguments.save else None
    told = _Watcher(folder).told
    async with SimulatedCarriers(pace=usual_pace(), told=told, port=arguments.port, keep=KEPT) as carriers:
        settings = f"{carriers.settings()}\n{DIALOUT.format(key=secrets.token_urlsafe(16))}"
        if arguments.write:
            _write(arguments.write, settings)
        _introduce(carriers.url, settings, arguments.write or "gateway.toml")
        await asyncio.to_thread(carriers.load_signers)
        await over.wait()


def _write(path: str, settings: str) -> None:
    """Write a file that only its owner reads. Raises UserError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(settings)
    except OSError as error:
        raise UserError(f"--write: {path}: {error.strerror}") from None


def _introduce(url: str, settings: str, file: str) -> None:
    from gateway.simulator.rest.plan import table

    print(f"The REST APIs of four carriers are at {url}; Ctrl-C ends them.")
    print(f"These accounts exist here only. For {file}:\n")
    print(settings)
    print("Any number is answered after 1 s and stays, but for these, also as the target of a transfer:\n")
    print(table() + "\n", flush=True)


class _Watcher:
    """Prints a line for each step of a call, and saves what was heard. folder: None saves nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._saving: set[asyncio.Future[None]] = set()
        self._saved = 0

    def told(self, call: PlacedCall) -> None:
        """Take note of a call's new status."""
        print(f"{call.carrier_name:7} {call.to:15} {call.status}{_end(call) if call.is_over else ''}", flush=True)
        for violation in sorted(set(call.report.violations)) if call.is_over else ():
            print(f"        {violation}", flush=True)
        if self._folder is not None and call.is_over and call.report.frames_received:
            self._saved += 1
            path = self._folder / f"{self._saved:03}-{call.carrier_name}-{call.to.lstrip('+')}.wav"
            saving = asyncio.get_running_loop().run_in_executor(None, _save, path, call)
            self._saving.add(saving)
            saving.add_done_callback(self._saving.discard)


def _end(call: PlacedCall) -> str:
    report = call.report
    said = f", {call.seconds} s, ended {ENDED_BY[call.ended_by or 'carrier']}"
    if call.answered_at is not None:
        said += f"; {report.frames_received * 0.02:.1f} s of audio heard"
    return said if report.outcome == "completed" else f"{said}; {report.outcome}"


def _save(path: Path, call: PlacedCall) -> None:
    """Write the file, in a thread: the calls that are running do not wait for it."""
    from gateway.audio.files import write_wav
    from gateway.cli.output import save

    report = call.report
    if save("simulate-carriers", "--save", str(path), lambda: write_wav(path, report.heard_pcm, report.heard_rate)):
        print(f"        what they heard: {path}", flush=True)
