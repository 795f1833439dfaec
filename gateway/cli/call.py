"""Place one simulated call to a running gateway, exactly as the carrier would: signed webhook, XML, WebSocket, audio.

Signed with the credentials in the environment (TWILIO_AUTH_TOKEN, PLIVO_AUTH_TOKEN, TELNYX_SIGNING_SEED,
EXOTEL_WEBHOOK_SECRET, and the account ids); unsigned without, which only a gateway in --dev accepts.

Exit status: 0 = the call was whole, 1 = it was not, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.cli.carriers import simulated_carrier

if TYPE_CHECKING:
    from gateway.simulator import CallReport

HELP = "place one simulated call, as a carrier would"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--carrier",
        required=True,
        type=simulated_carrier,
        metavar="NAME",
        help="twilio, telnyx, plivo, exotel, or another",
    )
    parser.add_argument(
        "--url", required=True, metavar="BASE_URL", help="where the gateway is, like http://127.0.0.1:8080"
    )
    parser.add_argument("--public-url", metavar="URL", help="what its settings call it, if that is another URL")
    parser.add_argument("--audio", metavar="FILE", help="WAV that the caller speaks (default: a recorded sentence)")
    parser.add_argument("--from", dest="from_number", default="+15550100001", metavar="N")
    parser.add_argument("--to", dest="to_number", default="+15550100000", metavar="N")
    parser.add_argument("--service-host", metavar="NAME", help="ask for this service in the webhook's query")
    parser.add_argument("--seconds", type=float, metavar="S", help="stay on the line this long")
    parser.add_argument("--save", metavar="WAV", help="write what the caller heard")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.audio.files import write_wav
    from gateway.cli.speech import speech
    from gateway.simulator import CallPlan, Credentials, place_call

    plan = CallPlan(
        carrier=arguments.carrier,
        base_url=arguments.url,
        public_url=arguments.public_url,
        audio=speech(arguments.audio),
        credentials=Credentials.from_env(),
        from_number=arguments.from_number,
        to_number=arguments.to_number,
        seconds=arguments.seconds,
        query={"serviceHost": arguments.service_host} if arguments.service_host else {},
    )
    report = asyncio.run(place_call(plan))
    if arguments.save:
        write_wav(arguments.save, report.heard_pcm, report.heard_rate)
    show(report)
    return 0 if report.outcome == "completed" and not report.violations else 1


def show(report: CallReport) -> None:
    """One line for each thing worth knowing."""
    print(f"carrier        {report.carrier}")
    print(f"outcome        {report.outcome}")
    print(f"webhook        {report.webhook_ms:.1f} ms; the carrier was told: {', '.join(report.verbs) or '-'}")
    if report.first_audio_ms is not None:
        print(f"first audio    {report.first_audio_ms:.1f} ms after the stream was opened")
    print(f"frames         {report.frames_sent} sent, {report.frames_received} received")
    delays = sorted(report.echo_delays_ms())
    if delays:
        print(f"echo delay     {delays[len(delays) // 2]:.1f} ms p50, {delays[int(0.99 * len(delays))]:.1f} ms p99")
    took = "" if report.end_ms is None else f", {report.end_ms:.0f} ms from the decision to the end"
    print(f"ended          by the {report.ended_by}{took}")
    for violation in report.violations:
        print(f"violation      {violation}")
