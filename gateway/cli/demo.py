"""The main job on this machine: start a gateway with warm echo workers, call it as Twilio, Telnyx, Plivo and Exotel.

Each call is a recorded sentence through signed webhook, XML, WebSocket, handshake, transcoder, bot and back. What the
caller heard must equal what the transcoder makes of what they said, sample for sample; only frames of silence may be
fewer, by which the gateway works off delay that a stall of the machine has left. Prints one table; writes what each
caller heard as WAV. Exit status: 0 = every call was whole, 1 = one was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.table import percentile, print_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gateway.audio.format import AudioFormat
    from gateway.simulator import CallPlan, CallReport, Credentials

HELP = "the main job, self-contained: four carriers call an echo bot"

LINK_RATE = 16000
CALLER_RATE = 8000
APART = 0.3
"""Seconds between the calls, so that one's beginning is not in the measure of another's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo-out", metavar="DIR", help="where the WAVs go (default: %(default)s)")
    parser.add_argument("--audio", metavar="FILE", help="WAV that the callers speak (default: a recorded sentence)")


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli.output import check_folder

    check_folder("--out", arguments.out)
    return asyncio.run(_demo(Path(arguments.out), arguments.audio))


async def _demo(out: Path, audio: str | None) -> int:
    from gateway.carriers.plugin import BUILT_IN
    from gateway.cli.carriers import simulated_carrier
    from gateway.cli.child import gateway_child
    from gateway.cli.speech import speech
    from gateway.simulator import CallPlan, Credentials
    from gateway.simulator.carriers import load_signer

    said = from_first_sound(speech(audio))
    carriers = [simulated_carrier(name) for name in BUILT_IN]
    credentials = Credentials.generate()
    print("starting a gateway with warm echo workers …", flush=True)
    async with gateway_child(_settings(credentials)) as url:
        print(f"calling {url} as {', '.join(carriers)}: {len(said) / CALLER_RATE:.1f} s each …", flush=True)
        plans = [CallPlan(carrier=name, base_url=url, audio=said, credentials=credentials) for name in carriers]
        for plan in plans:
            load_signer(plan)  # the SDKs are slow to import, and would stall the calls that talk
        reports = await asyncio.gather(*(_call(plan, n * APART) for n, plan in enumerate(plans)))
    results = [_judge(report, len(said) / CALLER_RATE) for report in reports]
    _print_results(results)
    _write_wavs(out, reports)
    broken = [result for result in results if result.faults]
    for result in broken:
        print(f"{result.report.carrier}: {'; '.join(result.faults)}")
    print("every call was whole" if not broken else f"{len(broken)} of {len(results)} calls were not whole")
    return 1 if broken else 0


def from_first_sound(said: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return this with the silence that it begins with at its end.

    A caller's silence before the first word is left out where it would wait for the bot: how long the first audio
    takes would be the sentence's doing.
    """
    import numpy as np

    from gateway.audio.quiet import QUIET_PEAK

    return np.roll(said, -int(np.argmax(np.abs(said.astype(np.int32)) > QUIET_PEAK)))


async def _call(plan: CallPlan, after: float) -> CallReport:
    from gateway.simulator import place_call

    await asyncio.sleep(after)
    return await place_call(plan)


def _settings(credentials: Credentials) -> str:
    """A configuration as a user would write it, with every carrier's credentials."""
    accounts = "\n".join(
        f"[carriers.{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in account.settings().items())
        for name, account in credentials.items()
    )
    return f"""
records = ""
[server]
ops_bind = ""
{accounts}
[[services]]
host = "echo"
default = true
bot = "gateway.worker.echo:bot"
sample_rate = {LINK_RATE}
min_warm = 4
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """A call, and all that was wrong with it. spoken, heard: frames of 20 ms, of what the caller said."""

    report: CallReport
    spoken: int
    heard: int
    faults: tuple[str, ...]


def _judge(report: CallReport, seconds: float) -> Judged:
    """Was it whole? Only what the caller said counts: the line's silence before they hang up is still on its way."""
    faults = [] if report.outcome == "completed" else [f"the call ended as: {report.outcome}"]
    faults += report.violations
    wire = _format(report, "outbound")
    said = _offline(report)[: wire.bytes_for_ms(round(seconds * 1000))]
    lost, same = compare(said, report.heard_wire, wire)
    if not same:
        faults.append("the caller heard something else than the transcoder makes of what they said")
    if lost:
        faults.append(f"{lost} frames were lost")
    spoken = round(seconds * 50)
    return Judged(report, spoken, spoken - lost, tuple(faults))


def compare(said: bytes, heard: bytes, wire: AudioFormat) -> tuple[int, bool]:
    """Return how many frames of 20 ms were said and never heard, and whether all that was heard is what was said.

    Frames of digital silence count on neither side: the gateway may leave them out, or fill a message with them.
    """
    expected = _frames_with_sound(said, wire)
    found = _frames_with_sound(heard, wire)[: len(expected)]
    return len(expected) - len(found), found == expected[: len(found)]


def _frames_with_sound(payload: bytes, wire: AudioFormat) -> list[bytes]:
    from gateway.audio.format import FRAME_MS

    size = wire.bytes_for_ms(FRAME_MS)
    silence = wire.silence(size)
    frames = (payload[start : start + size] for start in range(0, len(payload) - size + 1, size))
    return [frame for frame in frames if frame != silence]


def _offline(report: CallReport) -> bytes:
    """What the bot's echo is on the wire when nothing is lost: the same transcoders, without a network between."""
    from gateway.audio.format import AudioFormat
    from gateway.audio.transcoder import Transcoder

    link = AudioFormat("l16", LINK_RATE)
    heard_by_bot = Transcoder(_format(report, "inbound"), link).feed(report.sent_wire)
    return Transcoder(link, _format(report, "outbound")).feed(heard_by_bot)


def _format(report: CallReport, direction: str) -> AudioFormat:
    """What was spoken on the carrier's wire."""
    from gateway.audio.format import AudioFormat
    from gateway.simulator.voice import GATEWAY_NAMES

    if not report.opened:
        return AudioFormat("mulaw", 8000)
    encoding = getattr(report.opened[0].wire, direction)
    return AudioFormat.of(GATEWAY_NAMES[encoding.name], encoding.rate)


HEADER = ("carrier", "webhook ms", "first audio ms", "echo p50 ms", "echo p99 ms", "sent", "back", "lost")


def _print_results(results: list[Judged]) -> None:
    rows = [HEADER]
    for result in results:
        report = result.report
        delays = sorted(report.echo_delays_ms())
        rows.append(
            (
                report.carrier,
                f"{report.webhook_ms:.1f}",
                "-" if report.first_audio_ms is None else f"{report.first_audio_ms:.1f}",
                percentile(delays, 0.50),
                percentile(delays, 0.99),
                str(result.spoken),
                str(result.heard),
                str(result.spoken - result.heard),
            )
        )
    print()
    print_table(rows)
    print()


def _write_wavs(out: Path, reports: list[CallReport]) -> None:
    from gateway.audio.files import write_wav

    for report in reports:
        write_wav(out / f"{report.carrier}.wav", report.heard_pcm, report.heard_rate)
    print(f"what each caller heard: {out}/")
