"""What every carrier's HTTP side keeps.

It believes its carrier and no one else, and its answers can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote, urlencode, urlsplit

import orjson
from lxml import etree

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, StreamAnswer, Verified, Webhook
from gateway.conformance.sample import FROM, STREAM_URL, TO, Sample
from serializers.base import MediaFormat

HOSTILE_TEXT = "\"><&'\x00\x1f\ud800\ufffe" + "x" * 1000
AUTHORS = {"campaign": "x", "attempt": "40", "session": "s17", "after": "lunch"}
RESUME_URL = "https://voice.example.com/webhooks/conformance/resume?gw_session=s"
STATUS_URL = "https://voice.example.com/webhooks/conformance/stream?gw_session=s"
NOT_CALLS = (".", "..", "a/../b", "a?b=c", "a#b", "a%2fb", "a\n")


def settings_fit(sample: Sample) -> Iterator[str]:
    """The plug-in's settings take the simulator's account and show no secret.

    They have every key that the environment fills.
    """
    section = sample.account.settings()
    config = sample.plugin.config.model_validate(section)
    if config.lacks():
        yield f"with the simulator's settings, webhooks cannot be verified: {config.lacks()} is missing"
    shown = f"{config!r} {config}"
    for key, value in section.items():
        hidden = "token" in key or "secret" in key
        if hidden and value in shown:
            yield f"the setting {key} is shown when the settings are printed: use Secrets"
    account = next(iter(config.accounts), None)
    known = set(type(account).model_fields) if account is not None else set()
    for variable, key in sample.plugin.env.items():
        if key not in known:
            yield f"the variable {variable} fills {key}, and an account has no such key"


def only_the_carrier_is_believed(sample: Sample) -> Iterator[str]:
    """A signed webhook is the account's; any other is refused.

    Unsigned, forged or changed: nothing raises.
    """
    carrier, request, now = sample.carrier(), sample.voice(), sample.side.now()
    verified = carrier.verify(request, now=now)
    if not isinstance(verified, Verified):
        yield f"a webhook that the simulator has signed is refused: {verified.reason}"
        return
    if carrier.config.account(verified.account) is None or not verified.account:
        yield f"a signed webhook is said to be of the account {verified.account!r}, which is none of the settings"
    for how, forged in _forgeries(sample, carrier, request).items():
        if not isinstance(carrier.verify(forged, now=now), Refused):
            yield f"a webhook that is {how} is believed"


def _forgeries(sample: Sample, carrier: Carrier, request: HttpRequest) -> dict[str, HttpRequest]:
    """What must be refused, by what is wrong with it."""
    plain = {name: value for name, value in request.headers.items() if name == "content-type"}
    forged = {"unsigned": replace(request, headers=plain)}
    if carrier.can.body_signed:
        forged["signed, with a field added to its body,"] = replace(request, body=request.body + b"&x=1")
    stranger = sample.simulator.carrier.account_type.generate()
    if stranger.settings() != sample.account.settings():
        forged["signed with another's credentials"] = sample.voice(sample.call(account=stranger))
    for name, value in request.headers.items():
        without = replace(request, headers={n: v for n, v in request.headers.items() if n != name})
        if name in plain or not isinstance(carrier.verify(without, now=sample.side.now()), Refused):
            continue  # a header that proves nothing may say anything
        other_end = "AA" if value[-2:] != "AA" else "BB"
        for other in ("", "x", value[:-1], value[:-2] + other_end, "\u00e9" * 9000):
            changed = {**request.headers, name: other}
            forged[f"signed by the header {name}: {other:.20}"] = replace(request, headers=changed)
    return forged


def belief_follows_settings(sample: Sample) -> Iterator[str]:
    """Without credentials every webhook is believed in --dev, and none otherwise."""
    bare = HttpRequest("POST", "/voice", "", {})
    if sample.carrier(dev=True).verify(bare, now=0.0) != Verified():
        yield "in --dev, without credentials, a webhook is refused"
    closed = sample.plugin.carrier(sample.plugin.config(), public_url="https://voice.example.com")
    if not isinstance(closed.verify(bare, now=0.0), Refused):
        yield "without credentials and without --dev, an unsigned webhook is believed"


def webhooks_are_understood(sample: Sample) -> Iterator[str]:
    """A ringing call and the end of one are read as what they are.

    With the call's id and numbers.
    """
    carrier = sample.carrier()
    voice = carrier.parse(sample.voice())
    if not isinstance(voice, Webhook):
        yield f"the webhook of a ringing call is refused: {voice.reason}"
        return
    if (voice.kind, voice.call_id) != (Kind.VOICE, sample.side.call_id):
        yield f"a ringing call is read as {voice.kind} of {voice.call_id!r}"
    if (voice.from_number, voice.to_number) != (FROM, TO):
        yield f"a call from {FROM} to {TO} is read as from {voice.from_number!r} to {voice.to_number!r}"
    if voice.direction != "inbound":
        yield f"an inbound call is read as {voice.direction}"
    for request in sample.side.ended("completed", 60):
        ended = carrier.parse(sample.sent(request))
        if not isinstance(ended, Webhook) or ended.kind is not Kind.STATUS or ended.status != "ended":
            yield f"the status callback of a call's end is read as {ended!r:.100}"


def the_query_is_the_authors(sample: Sample) -> Iterator[str]:
    """What the flow's author writes into the URL arrives whole.

    By POST and by GET, beside our own names.
    """
    side = sample.call(query={**AUTHORS, "serviceHost": "support.acme", "gw_attempt": "3"})
    for method in ("POST", "GET"):
        request = sample.sent(side.instructions(side.voice_url, method, answered=False), side)
        webhook = sample.carrier().parse(request)
        if not isinstance(webhook, Webhook):
            yield f"a {method} with the author's query is refused: {webhook.reason}"
        elif dict(webhook.custom_params) != AUTHORS:
            yield f"of the author's query, a {method} gives {dict(webhook.custom_params)!r:.200}"
        elif (webhook.own.service_host, webhook.own.attempt) != ("support.acme", 3):
            yield f"our own parameters, by {method}, are read as {webhook.own}"


def parse_never_raises(sample: Sample) -> Iterator[str]:
    """Whatever a request holds, it is understood or refused.

    One byte that is not UTF-8 costs no call.
    """
    carrier, request = sample.carrier(), sample.voice()
    odd = replace(request, body=request.body + b"&Unread=Jos%E9")
    webhook = carrier.parse(odd)
    if not isinstance(webhook, Webhook) or webhook.call_id != sample.side.call_id:
        yield f"a byte that is not UTF-8, in a field that is not read, costs the call: {webhook!r:.60}"
    bodies = [b"", b"\xff", b"%", b"a=%zz", b"=&=", b"{", b"{}", b"[" * 5000, b'{"a":' * 900, b"--b", request.body[:40]]
    bodies += [bytes(sample.dice.randbytes(60)) for _ in range(50)]
    kinds = ["", "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=b", "é"]
    for body in bodies:
        for kind in kinds:
            for method in ("POST", "GET", "PUT", ""):
                hostile = HttpRequest(method, "/\udcff", body.decode("latin-1"), {"content-type": kind}, body)
                for name, read in (("parse", carrier.parse), ("verify", _verify(carrier))):
                    try:
                        read(hostile)
                    except Exception as error:
                        yield f"{name} raised {type(error).__name__} on {method} {kind} {body!r:.60}"


def _verify(carrier: Carrier) -> Callable[[HttpRequest], object]:
    return lambda request: carrier.verify(request, now=0.0)


def call_ids_have_a_form(sample: Sample) -> Iterator[str]:
    """What can be no call's id is refused in a webhook.

    And no REST request is made for it.
    """
    carrier, request = sample.carrier(), sample.voice()
    for bad in NOT_CALLS:
        own, other = urlencode({"": sample.side.call_id})[1:].encode(), quote(bad, safe="").encode()
        webhook = carrier.parse(replace(request, body=request.body.replace(own, other)))
        if isinstance(webhook, Webhook) and webhook.call_id:
            yield f"a webhook that names the call {bad!r} is taken for one of {webhook.call_id!r}"
        rest = carrier.hang_up(bad, "")
        if rest is not None:
            yield f"a REST request is made for the call {bad!r}: {rest.method} {urlsplit(rest.url).path}"


def answers_can_be_read(sample: Sample) -> Iterator[str]:
    """Every answer is whole XML, JSON or text.

    Whatever the texts in it, and the same bytes each time.
    """
    carrier = sample.carrier()
    stream = StreamAnswer(STREAM_URL, RESUME_URL, STATUS_URL, [("plan", "gold"), (HOSTILE_TEXT, HOSTILE_TEXT)])
    answers: dict[str, Callable[[Carrier], HttpAnswer]] = {
        "answer_stream": lambda c: c.answer_stream(stream),
        "answer_attach": lambda c: c.answer_attach(stream),
        "answer_reject(busy)": lambda c: c.answer_reject("busy"),
        "answer_reject(rejected)": lambda c: c.answer_reject("rejected"),
        "answer_hangup": lambda c: c.answer_hangup(),
        "answer_over": lambda c: c.answer_over(),
        "answer_dial": lambda c: c.answer_dial(TO, caller=FROM, action_url=RESUME_URL),
        "answer_dial of anything": lambda c: c.answer_dial(HOSTILE_TEXT, caller=HOSTILE_TEXT, action_url=RESUME_URL),
        "answer_digits": lambda c: c.answer_digits("123#", resume_url=RESUME_URL),
        "answer_park": lambda c: c.answer_park(),
        "answer_empty": lambda c: c.answer_empty(),
    }
    for name, make in answers.items():
        try:
            answer = make(carrier)
        except Exception as error:
            yield f"{name} raised {type(error).__name__}: {error}"
            continue
        if make(sample.carrier()) != answer:
            yield f"{name} gives other bytes the second time"
        problem = _unreadable(answer)
        if problem:
            yield f"{name} gives {problem}"
    if STREAM_URL.partition("://")[2].encode() not in carrier.answer_stream(stream).body:
        yield "answer_stream does not name the stream's URL"


def _unreadable(answer: HttpAnswer) -> str:
    """What keeps a carrier from reading the answer, or ""."""
    if not 200 <= answer.status < 600:
        return f"the status {answer.status}"
    kind = answer.content_type.partition(";")[0]
    try:
        if kind.endswith("xml"):
            etree.fromstring(answer.body, etree.XMLParser(resolve_entities=False, huge_tree=False))
        elif kind.endswith("json"):
            orjson.loads(answer.body)
        else:
            answer.body.decode()
    except (etree.XMLSyntaxError, ValueError) as error:
        return f"no {kind}: {error}"
    return ""


def formats_are_settled(sample: Sample) -> Iterator[str]:
    """What is negotiated can be transcoded.

    And is what the carrier is asked for when it is wanted.
    """
    carrier = sample.carrier()
    for encoding in ("mulaw", "alaw", "l16", "opus"):
        for rate in (8000, 16000, 24000, 44100):
            settled = carrier.negotiate(MediaFormat(encoding, rate))
            if settled.encoding not in ("mulaw", "alaw", "l16") or carrier.negotiate(settled) != settled:
                yield f"negotiate({encoding}/{rate}) gives {settled}, which is not settled"


WEBHOOK_RULES = (
    settings_fit,
    only_the_carrier_is_believed,
    belief_follows_settings,
    webhooks_are_understood,
    the_query_is_the_authors,
    parse_never_raises,
    call_ids_have_a_form,
    answers_can_be_read,
    formats_are_settled,
)
