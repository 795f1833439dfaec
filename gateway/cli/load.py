"""Place many simulated calls to a running gateway, in real time, and report what came of them.

Calls are started at the rate asked for, by absolute deadlines; each talks (a recording, over and over) for --seconds.
Delays of the echo are measured on every second of speech of every call; with a bot that is no echo there are none, and
the report says so. Signed with the credentials in the environment, as by `gateway call`.

The load measures how late it is itself. If it was, it reports no delays: place fewer calls, use another machine, or
share them among several processes. Ctrl-C ends the calls and still reports; a second one ends it at once.

Exit status: 0 = every call was answered and whole, 1 = one was not, or the load was late, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gateway.cli.carriers import simulated_carriers

if TYPE_CHECKING:
    from gateway.simulator.load import Load, LoadReport, Progress, Totals
    from gateway.simulator.plan import Pcm

HELP = "place many simulated calls, and report"

TERMINAL_EVERY = 0.25
"""Seconds between two looks at the progress on a terminal, where they take each other's place."""
LINES_EVERY = 3.0
"""And where each is a line of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--carrier",
        required=True,
        type=simulated_carriers,
        metavar="NAME[,NAME]",
        help="the calls take turns among them",
    )
    parser.add_argument("--url", required=True, metavar="BASE_URL", help="where the gateway is")
    parser.add_argument("--public-url", metavar="URL", help="what its settings call it, if that is another URL")
    parser.add_argument("--calls", required=True, type=_count, metavar="N", help="how many in all")
    parser.add_argument("--rate", required=True, type=_positive, metavar="CPS", help="calls started in a second")
    parser.add_argument("--seconds", required=True, type=_positive, metavar="S", help="how long each caller stays")
    parser.add_argument("--fixture", metavar="FILE", help="what they say: a WAV file, or a recorded call (.jsonl)")
    parser.add_argument(
        "--hold-audio", metavar="WAV", help="the gateway's hold audio, where it is not the packaged one"
    )
    parser.add_argument("--from", dest="from_number", default="+15550100001", metavar="N")
    parser.add_argument("--to", dest="to_number", default="+15550100000", metavar="N")
    parser.add_argument("--service-host", metavar="NAME", help="ask for this service in the webhook's query")
    parser.add_argument("--json", metavar="FILE", help="write everything there, each call included")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.errors import UserError
    from gateway.simulator import Credentials
    from gateway.simulator.load import Load, LoadPlan

    plan = LoadPlan(
        carriers=arguments.carrier,
        base_url=arguments.url,
        public_url=arguments.public_url,
        calls=arguments.calls,
        rate=arguments.rate,
        seconds=arguments.seconds,
        audio=_said(arguments.fixture),
        hold_audio=_hold_audio(arguments.hold_audio),
        credentials=Credentials.from_env(),
        from_number=arguments.from_number,
        to_number=arguments.to_number,
        query={"serviceHost": arguments.service_host} if arguments.service_host else {},
    )
    out: TextIO | None = None
    if arguments.json:
        try:
            out = Path(arguments.json).open("w")  # noqa: SIM115 - now, and not after minutes of calls
        except OSError as error:
            raise UserError(f"--json: {arguments.json}: {error.strerror}") from None

    async def watched() -> LoadReport:
        return await _watched(Load(plan))

    try:
        import uvloop

        report = uvloop.run(watched())
    except ImportError:  # pragma: no cover - uvloop has no wheel for every platform
        report = asyncio.run(watched())
    if out is not None:
        import json

        with out:
            json.dump(report.to_json(), out, indent=1)
    show(report)
    return 0 if report.ok else 1


def _said(path: str | None) -> Pcm:
    """What the callers say. Raises UserError."""
    from gateway.cli.speech import speech
    from gateway.errors import RecordingError, UserError
    from gateway.recording import Recording
    from gateway.simulator.load import caller_audio

    if path is None or not path.endswith(".jsonl"):
        try:
            said = speech(path)
        except UserError as error:
            raise UserError(str(error).replace("--audio:", "--fixture:", 1)) from None
        if not said.any():
            raise UserError(f"--fixture: {path}: nothing is said in it")
        return said
    try:
        recording = Recording.read(path)
    except RecordingError as error:
        raise UserError(f"--fixture: {error}") from None
    try:
        return caller_audio(recording)
    except RecordingError as error:
        raise UserError(f"--fixture: {path}: {error}") from None


def _hold_audio(path: str | None) -> Pcm:
    """How the gateway's hold audio sounds, at 8 kHz. Raises UserError."""
    from importlib.resources import as_file, files

    from gateway.audio.files import convert, read_wav
    from gateway.errors import AudioError, UserError

    try:
        if path is not None:
            pcm, rate = read_wav(path)
        else:
            with as_file(files("gateway") / "assets" / "hold.wav") as packaged:
                pcm, rate = read_wav(packaged)
    except AudioError as error:
        raise UserError(f"--hold-audio: {error}") from None
    return convert(pcm, rate, 8000)


# ------------------------------------------------------------------------------------------------------- progress


async def _watched(load: Load) -> LoadReport:
    """Run it, say how it stands, and take the first Ctrl-C (or SIGTERM) for its end."""
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    running = asyncio.create_task(load.run())

    def interrupted() -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)  # the second one is Python's
        load.stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupted)
    saying = asyncio.create_task(_say(load))
    try:
        return await running
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _say(load: Load) -> None:
    """On stderr, so that the report can be piped on."""
    import asyncio

    terminal = sys.stderr.isatty()
    try:
        while True:
            await asyncio.sleep(TERMINAL_EVERY if terminal else LINES_EVERY)
            line = progress_line(load.progress())
            sys.stderr.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
            sys.stderr.flush()
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")


def progress_line(now: Progress) -> str:
    """How it stands, in under 110 columns."""
    return (
        f"{now.seconds:5.0f} s  {now.started}/{now.asked} placed  {now.talking} talking  {now.on_hold} on hold  "
        f"{now.answered} answered  {now.refused} refused  {now.failed} failed  {now.late_ms:.1f} ms late"
    )


# --------------------------------------------------------------------------------------------------------- report

HEADER = (
    "carrier", "asked", "answered", "held", "refused", "failed",
    "webhook ms", "first audio ms", "echo ms", "frames sent", "back", "lost",
)  # fmt: skip


def show(report: LoadReport) -> None:
    """The table, then a line for each thing worth knowing. Delays are p50 / p99."""
    rows: list[tuple[str, ...]] = [HEADER]
    rows += [_row(name, totals, report) for name, totals in report.carriers.items()]
    if len(report.carriers) > 1:
        rows.append(_row("all", report.totals, report))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells)))
    print("delays are p50/p99, in ms; echo and first audio of calls that were not held")
    for line in notes(report):
        print(line)


def _row(name: str, totals: Totals, report: LoadReport) -> tuple[str, ...]:
    counts = (totals.asked, totals.answered, totals.held, totals.refused, totals.failed)
    delays = [_pair(spread.p50, spread.p99) for spread in (totals.webhook, totals.first_audio, totals.echo)]
    lost = str(totals.lost) if totals.echoed else "-"
    shown = ["-"] * len(delays) if report.late else delays
    return (name, *map(str, counts), *shown, str(totals.frames_sent), str(totals.frames_received), lost)


def _pair(p50: float | None, p99: float | None) -> str:
    return "-" if p50 is None or p99 is None else f"{p50:.1f}/{p99:.1f}"


def notes(report: LoadReport) -> list[str]:
    """What the table cannot say; the last one is the verdict."""
    totals, own = report.totals, report.lateness
    said = [f"{count} × {reason}" for reason, count in report.reasons.most_common()]
    if totals.held:
        said.append(f"on hold: {_pair(totals.hold.p50, totals.hold.p99)} s from the open stream to the bot, or the end")
    if totals.answered and not report.echo_found:
        said.append("no echo was found: the bot is none, so neither echo delay nor lost frames could be measured")
    if report.without_echo:
        said.append(f"{report.without_echo} × answered, but no echo was heard, though others heard theirs")
    said.append(
        f"this process: {100 * report.cpu / max(report.wall, 1e-9):.0f} % of a core; frames sent "
        f"{_late(own.frames.p50, own.frames.p99, own.frames.max)} ms late, event loop "
        f"{_late(own.loop.p50, own.loop.p99, own.loop.max)} ms (p50/p99/max)"
    )
    if report.late:
        said.append(
            f"no delays are reported, as this load was late itself: {'; '.join(report.late)}. "
            "Place fewer calls, use another machine, or share them among several processes"
        )
    elif report.interrupted:
        said.append(f"interrupted: {totals.asked} of {report.asked} calls had been placed")
    elif report.ok:
        said.append("every call was answered and whole")
    else:
        said.append(f"{report.asked - totals.whole + report.without_echo} of {report.asked} calls fell short")
    return said


def _late(p50: float | None, p99: float | None, most: float) -> str:
    return f"{p50 or 0:.1f}/{p99 or 0:.1f}/{most:.1f}"
