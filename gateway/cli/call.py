"""Place one simulated call to a running gateway, exactly as the carrier would: signed webhook, XML, WebSocket, audio.

Signed with the credentials in the environment (TWILIO_AUTH_TOKEN, PLIVO_AUTH_TOKEN, TELNYX_SIGNING_SEED,
EXOTEL_WEBHOOK_SECRET, and the account ids); unsigned without, which only a gateway in --dev accepts.

  gateway call --carrier twilio --url http://127.0.0.1:8080 --save heard.wav

Exit status: 0 = the call was whole, 1 = it was not, 2 = called wrongly.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.cli.arguments import gateway_url, positive
from gateway.cli.carriers import simulated_carrier
from gateway.cli.table import percentile

if TYPE_CHECKING:
    from gateway.simulator import CallPlan, CallReport

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
        "--url",
        required=True,
        type=gateway_url,
        metavar="BASE_URL",
        help="where the gateway is, like http://127.0.0.1:8080",
    )
    parser.add_argument(
        "--public-url", type=gateway_url, metavar="URL", help="what its settings call it, if that is another URL"
    )
    parser.add_argument("--audio", metavar="FILE", help="WAV that the caller speaks (default: a recorded sentence)")
    parser.add_argument(
        "--from", dest="from_number", default="+15550100001", metavar="N", help="the caller (default: %(default)s)"
    )
    parser.add_argument(
        "--to", dest="to_number", default="+15550100000", metavar="N", help="the number called (default: %(default)s)"
    )
    parser.add_argument("--service-host", metavar="NAME", help="ask for this service in the webhook's query")
    parser.add_argument(
        "--seconds", type=positive, metavar="S", help="stay on the line this long (default: as long as the audio)"
    )
    parser.add_argument("--save", metavar="WAV", help="write what the caller heard")


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from gateway.audio.files import write_wav
    from gateway.cli.output import check_file, save
    from gateway.cli.speech import speech
    from gateway.simulator import CallPlan, Credentials

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
    if arguments.save:
        check_file("--save", arguments.save)
    report = asyncio.run(_place(plan))
    show(report)
    if hint := refusal_hint(report, plan):
        print(f"hint           {hint}")
    saved = not arguments.save or save(
        "call", "--save", arguments.save, lambda: write_wav(arguments.save, report.heard_pcm, report.heard_rate)
    )
    return 0 if saved and is_whole(report) else 1


async def _place(plan: CallPlan) -> CallReport:
    """Place the call, once all that takes long when it is done first has been done: imports, and the host's address."""
    from gateway.simulator import place_call
    from gateway.simulator.carriers import load_signer
    from gateway.simulator.clock import undisturbed
    from gateway.simulator.http import knock

    load_signer(plan)
    await knock(plan.base_url)
    with undisturbed(collecting=False):
        return await place_call(plan)


# --------------------------------------------------------------------------------------------------------- report

FELL_SHORT = {
    "bot_error": "the bot raised; the gateway's log says what and where",
    "worker_lost": "the bot's process was lost, and no other took the call",
    "no_worker": "no worker took the call; the gateway's log says why",
    "hold_timeout": "no bot became free while the caller was on hold",
    "unsupported_codec": "the stream has a codec that the gateway does not speak",
    "drained": "the gateway ended while the call went on",
}
"""Why the gateway has ended a call that was not to end: the reason in its close frame, in a sentence."""


def fault(report: CallReport) -> str:
    """Say what the call lacks to be one that a bot answered; "" if it lacks nothing."""
    if report.outcome != "completed":
        return report.outcome
    if not report.opened:
        return (
            ""
            if report.dialled
            else f"failed: no stream was opened ({'; '.join(report.notes) or 'none was asked for'})"
        )
    why = FELL_SHORT.get(report.opened[-1].close_reason, "")
    if not why and heard_hold_audio_only(report):
        why = "no bot took the call, the caller heard hold audio only; the gateway's log says why"
    return f"failed: {why}" if why else ""


def heard_hold_audio_only(report: CallReport) -> bool:
    """Return whether the last stream brought the packaged hold audio and no bot, whose arrival clears it."""
    from gateway.cli.speech import hold_audio
    from gateway.simulator.load.calls import hold_opening, is_hold_audio

    stream = report.opened[-1]
    encoding = stream.wire.outbound
    heard = encoding.decode(b"".join(each.payload for each in stream.playout.heard))
    return not stream.cleared and is_hold_audio(heard, hold_opening(hold_audio(), encoding.rate), encoding.rate)


def is_whole(report: CallReport) -> bool:
    """True if a bot, or the number that the call was forwarded to, had the call, by the carrier's rules."""
    return not fault(report) and not report.violations


def refusal_hint(report: CallReport, plan: CallPlan) -> str:
    """Say what to mend where the gateway did not take the webhook; "" where it did."""
    from gateway.simulator.carrier import Request
    from gateway.simulator.carriers import carrier_of

    status = report.http[0].status if report.http else 0
    if status == 404:
        return f"[carriers.{plan.carrier}] has no credentials in the gateway's settings, or --url is another server's"
    if status != 403:
        return ""
    if not carrier_of(plan).headers(Request("POST", plan.public), b""):
        return "nothing was signed: set the carrier's secrets in the environment (gateway call --help names them)"
    mend = "is it public_url in its settings?" if plan.public_url else "if its public_url is another, add --public-url"
    return f"signed for {plan.public}, with the secrets of this environment: {mend}"


def show(report: CallReport) -> None:
    """Print one line for each thing worth knowing."""
    print(f"carrier        {report.carrier}")
    print(f"outcome        {fault(report) or report.outcome}")
    print(f"webhook        {report.webhook_ms:.1f} ms; the carrier was told: {', '.join(report.verbs) or '-'}")
    if report.first_audio_ms is not None:
        print(f"first audio    {report.first_audio_ms:.1f} ms after the stream was opened")
    print(f"frames         {report.frames_sent} sent, {report.frames_received} received")
    delays = sorted(report.echo_delays_ms())
    if delays:
        print(f"echo delay     {percentile(delays, 0.5)} ms p50, {percentile(delays, 0.99)} ms p99")
    elif fault(report):
        pass  # what is missing has been said
    elif report.frames_received:
        print("echo           none was heard: the bot says something else than its caller")
    elif report.opened:
        print("echo           none was heard: the bot has said nothing")
    took = "" if report.end_ms is None else f", {report.end_ms:.0f} ms from the decision to the end"
    print(f"ended          by the {report.ended_by}{took}")
    for violation in report.violations:
        print(f"violation      {violation}")
