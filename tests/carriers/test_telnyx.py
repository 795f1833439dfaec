from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from nacl.signing import SigningKey

from gateway.carriers.base import HttpRequest, Kind, Refused, StreamAnswer, Verified, Webhook
from gateway.carriers.parameters import OwnParameters
from gateway.carriers.telnyx import SIGNATURE, TIMESTAMP, Config, TelnyxCarrier
from serializers.base import MediaFormat
from tests.carriers.webhooks import FORM, PUBLIC, Pairs, get, post, post_body, query_of
from tests.kit.golden import VECTORS, golden_bytes

VECTOR = VECTORS["telnyx"]
KEY = SigningKey(bytes.fromhex(VECTOR["private_seed_hex"]))
OTHER = SigningKey(b"\x01" * 32)
NOW = int(VECTOR["timestamp"])
CALL = {
    "AccountSid": "5b2ec1f2-0000-4000-8000-000000000000",
    "CallSid": "v3:d0bc2b02ea83a14446cd4c76054b943d01857365-029bf7c67e",
    "ConnectionId": "1000000000000000001",
    "From": "+15550100002",
    "To": "+15550100004",
}


class Believed:
    """Verified for this account, whatever the nonce."""

    def __init__(self, account: str) -> None:
        self.account = account

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verified) and other.account == self.account

    __hash__ = None  # type: ignore[assignment]


def public(key: SigningKey) -> str:
    return base64.b64encode(bytes(key.verify_key)).decode()


def carrier(**config: Any) -> TelnyxCarrier:
    settings = config or {"public_key": VECTOR["public_key"]}
    return TelnyxCarrier(Config.model_validate(settings), public_url=PUBLIC)


def headers(body: bytes, timestamp: str = str(NOW), key: SigningKey = KEY) -> dict[str, str]:
    signature = key.sign(timestamp.encode() + b"|" + body).signature
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: timestamp, "content-type": FORM}


def signed(fields: Pairs = CALL, key: SigningKey = KEY, timestamp: str = str(NOW)) -> HttpRequest:
    body = post(fields).body
    return HttpRequest("POST", "/voice", "", headers(body, timestamp, key), body)


def test_vector() -> None:
    request = post_body(VECTOR["body"].encode(), "application/json")
    request = HttpRequest(
        "POST",
        "/voice",
        "",
        {"content-type": "application/json", SIGNATURE: VECTOR["signature"], TIMESTAMP: VECTOR["timestamp"]},
        VECTOR["body"].encode(),
    )
    assert carrier().verify(request, now=NOW) == Believed("default")


def test_what_we_accept_the_sdk_accepts() -> None:
    import telnyx

    now = time.time()
    body = VECTOR["body"].encode()
    given = headers(body, str(int(now)))
    assert carrier().verify(
        HttpRequest("POST", "/voice", "", {**given, "content-type": "application/json"}, body), now=now
    ) == Believed("default")
    client = telnyx.Telnyx(api_key="k", public_key=VECTOR["public_key"])
    client.webhooks.unwrap(body.decode(), headers=given)
    with pytest.raises(ValueError, match="verification failed"):
        client.webhooks.unwrap(body.decode() + " ", headers=given)


def test_signature_is_over_the_raw_form() -> None:
    assert carrier().verify(signed(), now=NOW) == Believed("default")


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_clock_within_five_minutes(late: int) -> None:
    assert carrier().verify(signed(), now=NOW + late) == Believed("default")


@pytest.mark.parametrize("late", [-301, 301, 86400, -1e12])
def test_stale(late: float) -> None:
    assert carrier().verify(signed(), now=NOW + late) == Refused("stale")


@pytest.mark.parametrize("timestamp", ["", "x", "1_760_000_000", "１７６", "-1", "1760000000.0", "1" * 400, "+1", " 1"])
def test_timestamp_that_is_none(timestamp: str) -> None:
    request = HttpRequest("POST", "/voice", "", {SIGNATURE: VECTOR["signature"], TIMESTAMP: timestamp}, b"")
    assert carrier().verify(request, now=NOW) == Refused("bad_signature" if timestamp else "missing_signature")


@pytest.mark.parametrize(
    "signature", ["A" * 4000, "é" * 88, "not base64!", "AAAA", VECTOR["signature"], "\udcff", "A" * 88]
)
def test_signature_that_is_none(signature: str) -> None:
    given = {SIGNATURE: signature, TIMESTAMP: str(NOW), "content-type": FORM}
    assert carrier().verify(post(CALL, headers=given), now=NOW) == Refused("bad_signature")


@pytest.mark.parametrize("missing", [SIGNATURE, TIMESTAMP])
def test_missing_header(missing: str) -> None:
    request = signed()
    given = {name: value for name, value in request.headers.items() if name != missing}
    assert carrier().verify(HttpRequest("POST", "/", "", given, request.body), now=NOW) == Refused("missing_signature")


@pytest.mark.parametrize("where", range(0, 100, 9))
def test_one_byte_of_the_body_changed(where: int) -> None:
    request = signed()
    body = bytearray(request.body)
    body[where] ^= 1
    changed = HttpRequest("POST", "/voice", "", request.headers, bytes(body))
    assert carrier().verify(changed, now=NOW) == Refused("bad_signature")


def test_get_is_not_signed_at_all() -> None:
    request = get("CallSid=v3:x&CallStatus=ringing", headers=headers(b""))
    assert carrier().verify(request, now=NOW) == Refused("bad_method")


def test_endless_body() -> None:
    request = HttpRequest("POST", "/voice", "", headers(b""), b"x" * 1_000_000)
    assert carrier().verify(request, now=NOW) == Refused("too_large")


def test_signed_body_that_cannot_be_read() -> None:
    request = HttpRequest("POST", "/voice", "", {**headers(b"a"), "content-type": "text/plain"}, b"a")
    assert carrier().verify(request, now=NOW) == Refused("bad_body")


def test_rotated_public_key() -> None:
    verifier = carrier(public_key=[public(OTHER), public(KEY)])
    assert verifier.verify(signed(), now=NOW) == Believed("default")
    assert verifier.verify(signed(key=OTHER), now=NOW) == Believed("default")
    assert verifier.verify(signed(key=SigningKey(b"\x02" * 32)), now=NOW) == Refused("bad_signature")


def test_account_by_connection() -> None:
    first = {"connection_id": CALL["ConnectionId"], "public_key": public(KEY)}
    second = {"connection_id": "2", "public_key": public(OTHER)}
    third = {"connection_id": "3", "public_key": public(KEY)}  # another application of the first account
    verifier = carrier(accounts=[first, second, third])
    assert verifier.verify(signed(), now=NOW) == Believed(CALL["ConnectionId"])
    assert verifier.verify(signed({**CALL, "ConnectionId": "3"}), now=NOW) == Believed("3")
    assert verifier.verify(signed({**CALL, "ConnectionId": "4"}), now=NOW) == Refused("foreign_account")
    # An account's key does not vouch for another's connection.
    assert verifier.verify(signed({**CALL, "ConnectionId": "2"}), now=NOW) == Refused("foreign_account")
    without = {name: value for name, value in CALL.items() if name != "ConnectionId"}
    assert verifier.verify(signed(without, OTHER), now=NOW) == Believed("2")


def test_connection_of_a_json_event() -> None:
    body = golden_bytes("telnyx-01-webhook-call.initiated.json")
    request = HttpRequest("POST", "/", "", {**headers(body), "content-type": "application/json"}, body)
    key = public(KEY)
    assert carrier(public_key=key, connection_id="1000000000000000001").verify(request, now=NOW) == Believed(
        "1000000000000000001"
    )
    assert carrier(public_key=key, connection_id="9").verify(request, now=NOW) == Refused("foreign_account")


def test_upgrade_is_unsigned() -> None:
    assert carrier().verify_upgrade(get(path="/ws/t"), now=NOW) == Refused("unsigned")


# verify = "key"

BY_KEY = {"verify": "key", "webhook_secret": ["new hush", "old"], "connection_id": CALL["ConnectionId"]}


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (post(CALL, query="key=new+hush"), Verified(CALL["ConnectionId"])),
        (post(CALL, query="key=old&serviceHost=a.b"), Verified(CALL["ConnectionId"])),
        (post(CALL, path="/voice/old"), Verified(CALL["ConnectionId"])),
        (post(CALL, path="/voice/old/"), Verified(CALL["ConnectionId"])),
        (get(urlencode({**CALL, "key": "old"})), Verified(CALL["ConnectionId"])),
        (post(CALL, query="key=older"), Refused("bad_key")),
        (post(CALL, query="key=old&key=old"), Refused("bad_key")),
        (post(CALL, query="key="), Refused("bad_key")),
        (post(CALL, path="/old/voice"), Refused("bad_key")),
        (post(CALL), Refused("bad_key")),
        (post({**CALL, "ConnectionId": "2"}, query="key=old"), Refused("foreign_account")),
        (post_body(b"a", "text/plain", query="key=old"), Refused("bad_body")),
    ],
)
def test_by_key(request_: HttpRequest, result: object) -> None:
    assert carrier(**BY_KEY).verify(request_, now=NOW) == result


def test_by_key_without_a_secret() -> None:
    verifier = carrier(verify="key", public_key=VECTOR["public_key"])
    assert verifier.verify(signed(), now=NOW) == Refused("not_configured")


def test_by_key_our_own_urls_carry_the_key_of_their_account() -> None:
    first, second = {**BY_KEY, "connection_id": "1"}, {"connection_id": "2", "webhook_secret": "two & two"}
    del first["verify"]
    both = carrier(verify="key", accounts=[first, second])
    for account in ("1", "2"):
        url = both.callback_url(f"{PUBLIC}/voice?s=1", account)
        request = post({**CALL, "ConnectionId": account}, query=query_of(url))
        assert both.verify(request, now=NOW) == Verified(account)
    assert both.callback_url("https://h/r", "") == "https://h/r?key=new%20hush"
    assert carrier().callback_url("https://h/r", "default") == "https://h/r"
    assert carrier(verify="key").callback_url("https://h/r", "default") == "https://h/r"


def test_by_key_answers_hold_our_urls_as_they_are() -> None:
    given, url = carrier(**BY_KEY), "https://h/r?s=1&key=new%20hush"
    connect, redirect = etree.fromstring(given.answer_stream(StreamAnswer("wss://h/t", url, "https://h/s?key=k")).body)
    assert (redirect.text, connect[0].get("statusCallback")) == (url, "https://h/s?key=k")
    (dial,) = etree.fromstring(given.answer_dial("+15550123", caller="", action_url=url).body)
    assert dial.get("action") == url
    assert etree.fromstring(given.answer_digits("1", resume_url=url).body)[1].text == url


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=6), st.integers(-300, 300))
def test_whatever_is_signed_verifies(fields: dict[str, str], late: int) -> None:
    fields.pop("ConnectionId", None)
    assert carrier().verify(signed(fields), now=NOW + late) == Believed("default")


# What webhooks say


def parse(fields: Pairs) -> Webhook:
    webhook = carrier().parse(post(fields, query="gw_session=s"))
    assert isinstance(webhook, Webhook)
    return webhook


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({"CallStatus": "ringing"}, Kind.VOICE, "ringing"),
        ({"CallStatus": "initiated"}, Kind.VOICE, "ringing"),
        ({}, Kind.VOICE, ""),
        ({"CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"CallStatus": "ringing", "CallbackSource": "call-progress-events"}, Kind.STATUS, "ringing"),
        ({"CallStatus": "completed"}, Kind.STATUS, "ended"),
        ({"CallbackSource": "call-cost-events"}, Kind.OTHER, ""),
        ({"StreamEvent": "stream-started", "StreamSid": "s"}, Kind.STREAM, ""),
        ({"StreamSid": "s"}, Kind.STREAM, ""),
        ({"AnsweredBy": "machine"}, Kind.STATUS, ""),
    ],
)
def test_kind_and_status(fields: dict[str, str], kind: Kind, status: str) -> None:
    webhook = parse({**CALL, **fields})
    assert (webhook.kind, webhook.status, webhook.call_id) == (kind, status, CALL["CallSid"])
    assert webhook.own == OwnParameters(session="s")


def test_call_id_falls_back() -> None:
    assert parse({"CallSidLegacy": "old", "CallStatus": "ringing"}).call_id == "old"
    assert parse({"CallControlId": "v3:x", "CallSidLegacy": "old"}).call_id == "v3:x"


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        ("normal_clearing", "completed"),
        ("user_busy", "busy"),
        ("no_answer", "no-answer"),
        ("timeout", "no-answer"),
        ("originator_cancel", "canceled"),
        ("not_found", "failed"),
    ],
)
def test_how_a_call_ended(cause: str, outcome: str) -> None:
    webhook = parse({**CALL, "CallStatus": "completed", "HangupCause": cause})
    assert (webhook.detail, webhook.outcome) == (cause, outcome)


def test_both_names_of_a_failed_stream() -> None:
    for event in ("stream-failed", "stream-error"):
        assert parse({**CALL, "StreamEvent": event, "StreamError": "connection_failed"}).stream == "failed"


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("telnyx-01-webhook-call.initiated.json", "call.initiated"),
        ("telnyx-02-webhook-call.answered.json", "call.answered"),
    ],
)
def test_call_control_is_foreign(name: str, event: str) -> None:
    webhook = carrier().parse(post_body(golden_bytes(name), "application/json"))
    assert webhook == Webhook(
        kind=Kind.FOREIGN,
        call_id="v3:d0bc2b02ea83a14446cd4c76054b943d01857365-029bf7c67e",
        note=f"Call Control event {event}: assign the number to a TeXML application, we use TeXML",
    )


def test_note_holds_one_clean_line() -> None:
    body = b'{"data":{"event_type":"a\\nb\\u001b[31m' + b"x" * 300 + b'","payload":{"direction":"outgoing","from":7}}}'
    webhook = carrier().parse(post_body(body, "application/json"))
    assert isinstance(webhook, Webhook)
    assert webhook.note.startswith("Call Control event a?b??31mxxx")
    assert len(webhook.note) < 150


@pytest.mark.parametrize("body", [b'{"a":1}', b'{"data":7}', b'{"data":{"event_type":7}}'])
def test_other_json(body: bytes) -> None:
    assert carrier().parse(post_body(body, "application/json")) == Webhook(Kind.OTHER, "")


# Answers


@pytest.mark.parametrize(
    ("wanted", "attributes"),
    [
        (MediaFormat("mulaw", 8000), {"bidirectionalCodec": "PCMU", "bidirectionalSamplingRate": "8000"}),
        (MediaFormat("alaw", 8000), {"bidirectionalCodec": "PCMA", "bidirectionalSamplingRate": "8000"}),
        (
            MediaFormat("l16", 16000),
            {"bidirectionalCodec": "L16", "bidirectionalSamplingRate": "16000", "codec": "L16"},
        ),
        (
            MediaFormat("l16", 48000),
            {"bidirectionalCodec": "L16", "bidirectionalSamplingRate": "16000", "codec": "L16"},
        ),
        (MediaFormat("opus", 48000), {"bidirectionalCodec": "PCMU", "bidirectionalSamplingRate": "8000"}),
    ],
)
def test_stream_attributes(wanted: MediaFormat, attributes: dict[str, str]) -> None:
    answer = StreamAnswer("wss://h/ws/t?x=1", "https://h/r", "https://h/s", [("a", "1")], wanted)
    connect, redirect = etree.fromstring(carrier().answer_stream(answer).body)
    (stream,) = connect
    assert dict(stream.items()) == {
        "url": "wss://h/ws/t?x=1",
        "track": "inbound_track",
        "bidirectionalMode": "rtp",
        "enableReconnect": "false",
        "statusCallback": "https://h/s",
        **attributes,
    }
    assert [dict(parameter.attrib) for parameter in stream] == [{"name": "a", "value": "1"}]
    assert (redirect.tag, redirect.text, redirect.get("method")) == ("Redirect", "https://h/r", "POST")


def test_stream_markup_to_the_byte() -> None:
    answer = StreamAnswer("wss://h/ws/t", "https://h/r", "https://h/s")
    assert carrier().answer_stream(answer).body == (
        b"<?xml version='1.0' encoding='UTF-8'?>\n"
        b'<Response><Connect><Stream url="wss://h/ws/t" track="inbound_track" bidirectionalMode="rtp"'
        b' bidirectionalCodec="PCMU" bidirectionalSamplingRate="8000" enableReconnect="false"'
        b' statusCallback="https://h/s"/></Connect><Redirect method="POST">https://h/r</Redirect></Response>'
    )


def test_the_signature_is_its_own_nonce() -> None:
    """Two fetches in one second may be the same bytes: repeated soon it is the same request, and later a replay."""
    one, other = carrier().verify(signed(), now=NOW), carrier().verify(signed(), now=NOW)
    assert isinstance(one, Verified)
    assert one == other
    assert one.nonce == (base64.b64decode(signed().headers[SIGNATURE]).hex(), "")


def test_the_same_signature_in_other_letters_is_the_same_nonce() -> None:
    """The last letter before the padding has four bits that mean nothing, and Python ignores them."""
    request = signed()
    text = request.headers[SIGNATURE]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:85] + letters[letters.index(text[85]) ^ 1] + "=="
    replayed = replace(request, headers={**request.headers, SIGNATURE: other})
    assert other != text
    assert carrier().verify(replayed, now=NOW) == carrier().verify(request, now=NOW)
