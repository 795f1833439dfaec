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
from typing import TYPE_CHECKING

from gateway.cli.arguments import gateway_url, positive, whole
from gateway.cli.carriers import simulated_carriers
from gateway.cli.table import print_table
from gateway.event_loop import loop_factory

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
    parser.add_argument("--url", required=True, type=gateway_url, metavar="BASE_URL", help="where the gateway is")
    parser.add_argument(
        "--public-url", type=gateway_url, metavar="URL", help="what its settings call it, if that is another URL"
    )
    parser.add_argument("--calls", required=True, type=whole(1), metavar="N", help="how many in all")
    parser.add_argument("--rate", required=True, type=positive, metavar="CPS", help="calls started in a second")
    parser.add_argument("--seconds", required=True, type=positive, metavar="S", help="how long each caller stays")
    parser.add_argument("--fixture", metavar="FILE", help="what they say: a WAV file, or a recorded call (.jsonl)")
    parser.add_argument(
        "--hold-audio", metavar="WAV", help="the gateway's hold audio, where it is not the packaged one"
    )
    parser.add_argument(
        "--from", dest="from_number", default="+15550100001", metavar="N", help="the callers (default: %(default)s)"
    )
    parser.add_argument(
        "--to", dest="to_number", default="+15550100000", metavar="N", help="the number called (default: %(default)s)"
    )
    parser.add_argument("--service-host", metavar="NAME", help="ask for this service in the webhook's query")
    parser.add_argument("--json", metavar="FILE", help="write everything there, each call included")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli.output import check_file, save
    from gateway.cli.speech import hold_audio
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
        hold_audio=hold_audio(arguments.hold_audio),
        credentials=Credentials.from_env(),
        from_number=arguments.from_number,
        to_number=arguments.to_number,
        query={"serviceHost": arguments.service_host} if arguments.service_host else {},
    )
    if arguments.json:
        check_file("--json", arguments.json)

    async def watched() -> LoadReport:
        return await _watched(Load(plan))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        report = runner.run(watched())
    show(report)
    saved = not arguments.json or save("load", "--json", arguments.json, lambda: _write(arguments.json, report))
    return 0 if saved and report.ok else 1


def _write(path: str, report: LoadReport) -> None:
    import json

    with Path(path).open("w") as file:
        json.dump(report.to_json(), file, indent=1)


def _said(path: str | None) -> Pcm:
    """What the callers say. Raises UserError."""
    from gateway.cli.speech import speech
    from gateway.errors import RecordingError, UserError
    from gateway.recording import Recording
    from gateway.simulator.load import caller_audio

    if path is None or not path.endswith(".jsonl"):
        said = speech(path, "--fixture")
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
    """Say how it stands, within 80 columns: what is none is left out, and of what does not fit the least important."""
    counts = (
        (now.talking, "talking"), (now.failed, "failed"), (now.refused, "refused"), (round(now.late_ms), "ms late"),
        (now.on_hold, "on hold"), (now.answered, "answered"),
    )  # fmt: skip
    line = f"{now.seconds:5.0f} s  {now.started}/{now.asked} placed"
    for count, what in counts:
        part = f"  {count} {what}" if count else ""
        if len(line + part) < COLUMNS:  # a line that fills the terminal's last column wraps
            line += part
    return line


# --------------------------------------------------------------------------------------------------------- report

COLUMNS = 80
"""Of a terminal as it is opened by default."""

COUNTS = ("carrier", "asked", "answered", "held", "refused", "failed", "sent", "back", "lost")
DELAYS = ("carrier", "webhook ms", "first audio ms", "echo ms")


def show(report: LoadReport) -> None:
    """Print the counts, the delays as p50/p99, then a line for each thing worth knowing."""
    each = dict(report.carriers)
    if len(each) > 1:
        each["all"] = report.totals
    print_table([COUNTS, *(_counts(name, totals) for name, totals in each.items())])
    if not report.late:
        print()
        print_table([DELAYS, *(_delays(name, totals) for name, totals in each.items())])
    print()
    print("sent, back and lost are frames of 20 ms")
    if not report.late:
        print("delays are p50/p99; echo and first audio of calls that were not held")
    for line in notes(report):
        print(line)


def _counts(name: str, totals: Totals) -> tuple[str, ...]:
    calls = (totals.asked, totals.answered, totals.held, totals.refused, totals.failed)
    lost = str(totals.lost) if totals.echoed else "-"
    return (name, *map(str, calls), str(totals.frames_sent), str(totals.frames_received), lost)


def _delays(name: str, totals: Totals) -> tuple[str, ...]:
    return (name, *(_pair(spread.p50, spread.p99) for spread in (totals.webhook, totals.first_audio, totals.echo)))


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
