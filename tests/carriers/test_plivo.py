from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from plivo.utils import signature_v3

from gateway.carriers.base import HttpRequest, Kind, Refused, StreamAnswer, Verified, Webhook
from gateway.carriers.form import Fields, read_query
from gateway.carriers.parameters import OwnParameters
from gateway.carriers.plivo import MAIN_SIGNATURE, NONCE, SIGNATURE, Config, PlivoCarrier, sign, to_sign
from serializers.base import MediaFormat
from tests.carriers.webhooks import (
    PUBLIC,
    VECTORS,
    Pairs,
    get,
    golden,
    origin,
    pairs_of,
    path_of,
    post,
    post_body,
    query_of,
    refused_forms,
)

AUTH_ID = "MANWVLYTK4ZWU1YTY4QA"
TOKEN = "my-token"
CALL = {
    "CallUUID": "2012cb47-ad3b-fff7-fbec-234a241d39fe",
    "ParentAuthID": AUTH_ID,
    "From": "15550100007",
    "To": "15550100008",
    "CallStatus": "ringing",
    "Direction": "inbound",
    "Event": "StartApp",
}


def carrier(public_url: str = PUBLIC, **config: Any) -> PlivoCarrier:
    settings = {"auth_id": AUTH_ID, "auth_token": TOKEN, **config}
    return PlivoCarrier(Config.model_validate(settings), public_url=public_url)


def query_fields(query: str) -> Fields:
    fields = read_query(query)
    assert isinstance(fields, Fields)
    return fields


def signature(
    method: str, query: str = "", params: Pairs = (), path: str = "/voice", token: str = TOKEN, base: str = PUBLIC
) -> str:
    pairs = query_fields(urlencode(params, doseq=True))
    return sign(token, to_sign(method, base + path, query_fields(query), pairs, "n1"))


def signed(fields: Pairs = CALL, query: str = "", token: str = TOKEN, header: str = SIGNATURE) -> HttpRequest:
    return post(fields, "/voice", query, {header: signature("POST", query, fields, token=token), NONCE: "n1"})


def account(result: object) -> str:
    assert isinstance(result, Verified), result
    return result.account


@pytest.mark.parametrize("vector", VECTORS["plivo_v3"], ids=lambda v: v["method"] + " " + query_of(v["url"]))
def test_vectors_of_the_go_sdk(vector: dict[str, Any]) -> None:
    url, params = vector["url"], vector["params"]
    headers = {SIGNATURE: vector["signature"], NONCE: vector["nonce"]}
    verifier = carrier(origin(url), auth_token=vector["token"])
    if vector["method"] == "POST":
        request = post(params, path_of(url), query_of(url), headers)
    else:
        query = "&".join(filter(None, [query_of(url), urlencode(params)]))
        request = get(query, path_of(url), headers)
    assert account(verifier.verify(request, now=0)) == AUTH_ID


@pytest.mark.parametrize("vector", VECTORS["plivo_v3_edges"], ids=lambda v: v["name"])
def test_vectors_of_the_edges(vector: dict[str, Any]) -> None:
    url = vector["uri"]
    query, params = query_fields(query_of(url)), Fields(vector["params"].items())
    made = to_sign(vector["method"], origin(url) + path_of(url), query, params, vector["nonce"])
    assert made.decode() == vector["signed"]
    assert sign(vector["token"], made) == vector["sig"]


@pytest.mark.parametrize("vector", VECTORS["plivo_v2"], ids=lambda v: v["url"])
def test_v2_is_not_accepted(vector: dict[str, Any]) -> None:
    v2 = {"x-plivo-signature-v2": vector["signature"], "x-plivo-signature-v2-nonce": vector["nonce"]}
    verifier = carrier(vector["url"], auth_token=vector["token"])
    assert verifier.verify(post(path="", headers=v2), now=0) == Refused("missing_signature")
    as_v3 = {SIGNATURE: vector["signature"], NONCE: vector["nonce"]}
    assert verifier.verify(post(path="", headers=as_v3), now=0) == Refused("bad_signature")


plain = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)


def sdk_accepts(method: str, url: str, params: dict[str, Any], made: str) -> bool:
    return bool(signature_v3.validate_v3_signature(method, url, "n1", TOKEN, made, dict(params)))


@given(
    st.sampled_from(["GET", "POST"]),
    st.dictionaries(plain, plain, max_size=4),
    st.dictionaries(plain, st.text(max_size=8), max_size=4),
)
def test_the_sdk_agrees(method: str, query: dict[str, str], params: dict[str, str]) -> None:
    raw = urlencode(query)
    url = f"{PUBLIC}/voice" + (f"?{raw}" if raw else "")
    params = {name: value for name, value in params.items() if method == "POST" and name not in query}
    assert sdk_accepts(method, url, params, signature(method, raw, params))


def test_lists_as_the_sdk_has_them() -> None:
    params = {"Digits": ["5678", "1234", "1234"], "A": "1"}
    made = signature("POST", "x=2&x=1", params)
    assert sdk_accepts("POST", f"{PUBLIC}/voice?x=2&x=1", params, made)


def test_query_that_the_sdk_raises_at() -> None:
    """Up to Python 3.12 the SDK raises UnicodeEncodeError, which is why ours is its own."""
    if sys.version_info < (3, 13):
        with pytest.raises(UnicodeEncodeError):
            sdk_accepts("POST", f"{PUBLIC}/voice?x=%C3%A9", {}, "x")
    assert account(carrier().verify(signed(query="x=%C3%A9"), now=0)) == AUTH_ID
    made = to_sign("POST", PUBLIC, query_fields("x=%C3%A9"), Fields(), "n")
    assert made == f"{PUBLIC}?x=é.n".encode()


def test_json_body_as_the_sdk_has_it() -> None:
    tree = {"Event": "started", "CallUUID": "u", "Duration": 7, "Extra": {"b": "2", "a": True}, "List": ["b", "a"]}
    joined = signature_v3.construct_post_url(f"{PUBLIC}/voice", tree).decode()
    made = sign(TOKEN, f"{joined}.n1".encode())
    request = HttpRequest(
        "POST",
        "/voice",
        "",
        {"content-type": "application/json", SIGNATURE: made, NONCE: "n1"},
        json.dumps(tree).encode(),
    )
    assert account(carrier().verify(request, now=0)) == AUTH_ID
    forged = HttpRequest("POST", "/voice", "", request.headers, json.dumps({**tree, "Extra": {}}).encode())
    assert carrier().verify(forged, now=0) == Refused("bad_signature")


def test_nested_json_is_not_taken_for_no_parameters() -> None:
    headers = {"content-type": "application/json", SIGNATURE: signature("POST"), NONCE: "n1"}
    request = HttpRequest("POST", "/voice", "", headers, b'{"Stream":{"Event":"forged"}}')
    assert carrier().verify(request, now=0) == Refused("bad_signature")


def test_bottomless_json() -> None:
    body = b'{"a":' * 1000 + b"1" + b"}" * 1000
    headers = {"content-type": "application/json", SIGNATURE: "x", NONCE: "n1"}
    assert isinstance(carrier().verify(HttpRequest("POST", "/voice", "", headers, body), now=0), Refused)


def test_captured_webhook() -> None:
    fields = pairs_of(golden("plivo-01-answer-post-outbound.form"))
    request = signed(fields, query="gw_session=s1")
    assert account(carrier(auth_id="MAD57ECB8CAC269549FE").verify(request, now=0)) == "MAD57ECB8CAC269549FE"
    assert carrier().parse(request) == Webhook(
        kind=Kind.VOICE,
        call_id="2012cb47-ad3b-fff7-fbec-234a241d39fe",
        from_number="+155501000070",
        to_number="+155501000080",
        raw_from="155501000070",
        raw_to="155501000080",
        direction="outbound",
        status="answered",
        own=OwnParameters(session="s1"),
    )


# What must not pass


@pytest.mark.parametrize("where", range(0, 150, 11))
def test_one_byte_of_the_body_changed(where: int) -> None:
    request = signed()
    body = bytearray(request.body)
    body[where] ^= 1
    result = carrier().verify(HttpRequest("POST", "/voice", "", request.headers, bytes(body)), now=0)
    assert isinstance(result, Refused)


@pytest.mark.parametrize(
    ("path", "query", "public_url"),
    [
        ("/resume", "a=1", PUBLIC),
        ("/voice", "a=2", PUBLIC),
        ("/voice", "", PUBLIC),
        ("/voice", "a=1", "https://x.example"),
    ],
)
def test_another_url(path: str, query: str, public_url: str) -> None:
    request = signed(query="a=1")
    moved = HttpRequest("POST", path, query, request.headers, request.body)
    assert carrier(public_url).verify(moved, now=0) == Refused("bad_signature")


def test_one_letter_of_the_signature_changed() -> None:
    right = signed().headers[SIGNATURE]
    for where, letter in enumerate(right):
        wrong = right[:where] + ("B" if letter == "A" else "A") + right[where + 1 :]
        assert carrier().verify(post(CALL, headers={SIGNATURE: wrong, NONCE: "n1"}), now=0) == Refused("bad_signature")


def test_another_nonce() -> None:
    request = signed()
    headers = {**request.headers, NONCE: "n2"}
    assert carrier().verify(HttpRequest("POST", "/voice", "", headers, request.body), now=0) == Refused("bad_signature")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing_signature"),
        ({SIGNATURE: "x"}, "missing_signature"),
        ({NONCE: "n1"}, "missing_signature"),
        ({SIGNATURE: "", MAIN_SIGNATURE: "", NONCE: "n1"}, "missing_signature"),
        ({SIGNATURE: "A" * 4000, NONCE: "n1"}, "bad_signature"),
        ({MAIN_SIGNATURE: "A" * 4000, NONCE: "n1"}, "bad_signature"),
        ({SIGNATURE: "x", NONCE: "n" * 4000}, "bad_signature"),
        ({SIGNATURE: "é,\udcff,", NONCE: "é\udcff"}, "bad_signature"),
    ],
)
def test_headers_that_are_none(headers: dict[str, str], reason: str) -> None:
    assert carrier().verify(post(CALL, headers=headers), now=0) == Refused(reason)


@pytest.mark.parametrize("name", ["CallUUID", "From", "To", "Event", "ParentAuthID", "CallStatus"])
def test_core_field_twice(name: str) -> None:
    pairs = [*CALL.items(), (name, "forged")]
    assert carrier().verify(signed(pairs), now=0) == Refused("duplicate_field")
    query = urlencode(pairs)
    request = get(query, headers={SIGNATURE: signature("GET", query), NONCE: "n1"})
    assert carrier().verify(request, now=0) == Refused("duplicate_field")


def test_bytes_that_are_not_utf8_are_signed_as_they_came() -> None:
    body = urlencode(CALL).encode() + b"&CallerName=Jos%E9"
    url = f"{PUBLIC}/voice"
    values = {name: value.encode() for name, value in CALL.items()} | {"CallerName": b"Jos\xe9"}
    parts = [name.encode() + values[name] for name in sorted(values)]
    headers = {SIGNATURE: sign(TOKEN, url.encode() + b"?" + b"".join(parts) + b".n1"), NONCE: "n1"}
    request = post_body(body, "application/x-www-form-urlencoded")
    verified = carrier().verify(HttpRequest("POST", "/voice", "", {**request.headers, **headers}, body), now=0)
    assert account(verified) == AUTH_ID
    webhook = carrier().parse(request)
    assert isinstance(webhook, Webhook)
    assert webhook.caller_name == "Jos\ufffd"


def test_names_differ_by_case() -> None:
    fields = {**CALL, "to": "mine", "direction": "mine"}
    webhook = carrier().parse(signed(fields))
    assert isinstance(webhook, Webhook)
    assert (webhook.to_number, webhook.direction) == ("+15550100008", "inbound")


# Accounts, rotation, several signatures


def test_signatures_with_commas_and_blanks() -> None:
    request = signed()
    made = request.headers[SIGNATURE]
    for header in (f"x,{made}", f"x , {made} , y", f"{made},"):
        headers = {**request.headers, SIGNATURE: header}
        assert account(carrier().verify(HttpRequest("POST", "/voice", "", headers, request.body), now=0)) == AUTH_ID


def test_main_account_signature() -> None:
    request = signed(header=MAIN_SIGNATURE)
    assert account(carrier().verify(request, now=0)) == AUTH_ID
    both = HttpRequest("POST", "/voice", "", {**request.headers, SIGNATURE: "of a subaccount"}, request.body)
    assert account(carrier().verify(both, now=0)) == AUTH_ID


def test_account_by_parent() -> None:
    verifier = carrier(accounts=[{"auth_id": "MA2", "auth_token": "two"}])
    assert account(verifier.verify(signed({**CALL, "ParentAuthID": "MA2"}, token="two"), now=0)) == "MA2"
    assert verifier.verify(signed({**CALL, "ParentAuthID": "MA2"}), now=0) == Refused("bad_signature")
    assert verifier.verify(signed({**CALL, "ParentAuthID": "MA3"}), now=0) == Refused("foreign_account")
    assert account(verifier.verify(signed({"CallUUID": "u"}, token="two"), now=0)) == "MA2"


def test_subaccount_is_called_by_its_parents_id() -> None:
    verifier = carrier(auth_id="SA1")
    assert account(verifier.verify(signed(), now=0)) == "SA1"


def test_rotated_token() -> None:
    verifier = carrier(auth_token=["new", "old"])
    assert account(verifier.verify(signed(token="new"), now=0)) == AUTH_ID
    assert account(verifier.verify(signed(token="old"), now=0)) == AUTH_ID
    assert verifier.verify(signed(token="older"), now=0) == Refused("bad_signature")


# The nonce


def nonce_of(request: HttpRequest) -> tuple[str, str]:
    result = carrier().verify(request, now=0)
    assert isinstance(result, Verified)
    assert result.nonce is not None
    return result.nonce


def test_retry_has_the_same_nonce_and_digest() -> None:
    request = signed(query="a=1&b=2")
    assert nonce_of(request)[0] == "n1"
    assert nonce_of(request) == nonce_of(signed(query="a=1&b=2"))
    reordered = post(list(reversed(CALL.items())), query="b=2&a=1", headers=request.headers)
    assert nonce_of(reordered) == nonce_of(request)


def test_what_v3_signs_alike_has_another_digest() -> None:
    one, other = signed(query="a=1&b=2"), signed(query="a=1%26b=2")
    assert one.headers[SIGNATURE] == other.headers[SIGNATURE]
    assert nonce_of(one) != nonce_of(other)
    one, other = signed({**CALL, "X": "Y1"}), signed({**CALL, "XY": "1"})
    assert one.headers[SIGNATURE] == other.headers[SIGNATURE]
    assert nonce_of(one) != nonce_of(other)


def test_json_retry_has_the_same_digest() -> None:
    tree = b'{"CallUUID":"u"}'
    made = sign(TOKEN, f"{PUBLIC}/voice?CallUUIDu.n1".encode())
    request = HttpRequest(
        "POST", "/voice", "", {"content-type": "application/json", SIGNATURE: made, NONCE: "n1"}, tree
    )
    assert nonce_of(request) == nonce_of(request)


# The upgrade


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
def test_upgrade_under_any_scheme(scheme: str) -> None:
    made = signature("GET", "x=1", path="/ws/t", base=f"{scheme}://voice.example.com:8443")
    request = get("x=1", "/ws/t", {SIGNATURE: made, NONCE: "n1"})
    verifier = carrier("https://voice.example.com:8443")
    assert account(verifier.verify_upgrade(request, now=0)) == AUTH_ID
    assert verifier.verify_upgrade(get("x=2", "/ws/t", request.headers), now=0) == Refused("bad_signature")
    assert verifier.verify_upgrade(get("x=1", "/ws/u", request.headers), now=0) == Refused("bad_signature")


def test_upgrade_without_signature() -> None:
    assert carrier().verify_upgrade(get(path="/ws/t"), now=0) == Refused("missing_signature")
    endless = get("x" * 9000, "/ws/t", {SIGNATURE: "A" * 43 + "=", NONCE: "n1"})
    assert carrier().verify_upgrade(endless, now=0) == Refused("too_large")


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_whatever_is_signed_verifies(fields: dict[str, str], query: dict[str, str]) -> None:
    fields.pop("ParentAuthID", None)
    assert account(carrier().verify(signed(fields, urlencode(query)), now=0)) == AUTH_ID


# What webhooks say


def parse(fields: Pairs) -> Webhook:
    webhook = carrier().parse(post({"CallUUID": "u", **dict(fields)}))
    assert isinstance(webhook, Webhook)
    return webhook


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({"Event": "StartApp", "CallStatus": "ringing"}, Kind.VOICE, "ringing"),
        ({"Event": "StartApp", "CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "Redirect", "CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "Redirect", "CallStatus": "completed"}, Kind.STATUS, "ended"),
        ({"CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "DialAction", "CallStatus": "in-progress", "DialStatus": "busy"}, Kind.VOICE, "answered"),
        ({"Event": "Ring", "CallStatus": "ringing"}, Kind.STATUS, "ringing"),
        ({"Event": "Hangup", "CallStatus": "completed"}, Kind.STATUS, "ended"),
        ({"Event": "Hangup"}, Kind.STATUS, "ended"),
        ({"Event": "MachineDetection", "CallStatus": "in-progress"}, Kind.STATUS, "answered"),
        ({"Event": "RecordStop", "CallStatus": "in-progress"}, Kind.OTHER, "answered"),
        ({"Event": "StartStream", "StreamID": "s"}, Kind.STREAM, ""),
        ({"Event": "PlayedStream", "StreamID": "s"}, Kind.STREAM, ""),
    ],
)
def test_kind_and_status(fields: dict[str, str], kind: Kind, status: str) -> None:
    webhook = parse(fields)
    assert (webhook.kind, webhook.status) == (kind, status)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("StartStream", "started"),
        ("started", "started"),
        ("StopStream", "stopped"),
        ("stopped", "stopped"),
        ("DroppedStream", "failed"),
        ("failed", "failed"),
        ("DegradedStream", "degraded"),
    ],
)
def test_both_sets_of_stream_events_as_form_and_as_json(event: str, state: str) -> None:
    fields = {"CallUUID": "u", "StreamID": "s1", "Event": event, "StatusReason": "connection_failed"}
    for request in (post(fields), post_body(json.dumps(fields).encode(), "application/json")):
        webhook = carrier().parse(request)
        assert isinstance(webhook, Webhook)
        assert (webhook.kind, webhook.stream) == (Kind.STREAM, state)
        assert webhook.detail == "connection_failed"


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("918035735900", "+918035735900"),
        ("+918035735900", "+918035735900"),
        ("sip:user@phone.plivo.com", "sip:user@phone.plivo.com"),
        ("12345", "12345"),
        ("anonymous", "anonymous"),
    ],
)
def test_numbers_with_and_without_plus(raw: str, number: str) -> None:
    webhook = parse({"Event": "StartApp", "From": raw})
    assert (webhook.from_number, webhook.raw_from) == (number, raw)


@pytest.mark.parametrize(
    ("fields", "detail", "outcome"),
    [
        ({"CallStatus": "completed", "HangupCauseName": "Normal Hangup"}, "Normal Hangup", "completed"),
        ({"CallStatus": "timeout"}, "timeout", "no-answer"),
        ({"CallStatus": "busy", "HangupCause": "USER_BUSY"}, "USER_BUSY", "busy"),
    ],
)
def test_how_a_call_ended(fields: dict[str, str], detail: str, outcome: str) -> None:
    webhook = parse({"Event": "Hangup", **fields})
    assert (webhook.detail, webhook.outcome) == (detail, outcome)


@pytest.mark.parametrize(
    ("raw", "dial"), [("completed", "completed"), ("cancel", "canceled"), ("timeout", "no-answer")]
)
def test_dial_action(raw: str, dial: str) -> None:
    assert parse({"DialStatus": raw, "CallStatus": "in-progress"}).dial == dial


def test_machine_detection() -> None:
    assert parse({"Event": "MachineDetection", "Machine": "true"}).answered_by == "machine"
    assert parse({"Event": "MachineDetection", "Machine": "False"}).answered_by == "human"
    assert parse({"Event": "StartApp"}).answered_by == ""


@pytest.mark.parametrize(("request_", "reason"), refused_forms("CallUUID"))
def test_parse_refused(request_: HttpRequest, reason: str) -> None:
    assert carrier().parse(request_) == Refused(reason)


# Answers


def test_stream_markup_to_the_byte() -> None:
    answer = StreamAnswer(
        "wss://voice.example.com/ws/plivo/token?a=1&b=2",
        "https://voice.example.com/resume?gw_session=s&gw_attempt=1",
        "https://voice.example.com/stream",
        [("host", "support"), ("dotted", "support.acme"), ("blank", ""), ("n", "1")],
    )
    assert carrier().answer_stream(answer).body == (
        b"<?xml version='1.0' encoding='UTF-8'?>\n"
        b'<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000"'
        b' audioTrack="inbound" streamTimeout="86400" statusCallbackUrl="https://voice.example.com/stream"'
        b' extraHeaders="host=support,n=1">wss://voice.example.com/ws/plivo/token?a=1&amp;b=2</Stream>'
        b'<Redirect method="POST">https://voice.example.com/resume?gw_session=s&amp;gw_attempt=1</Redirect>'
        b"</Response>"
    )


@pytest.mark.parametrize(
    ("wanted", "content_type"),
    [
        (MediaFormat("mulaw", 8000), "audio/x-mulaw;rate=8000"),
        (MediaFormat("alaw", 8000), "audio/x-mulaw;rate=8000"),
        (MediaFormat("l16", 8000), "audio/x-l16;rate=8000"),
        (MediaFormat("l16", 16000), "audio/x-l16;rate=16000"),
        (MediaFormat("l16", 24000), "audio/x-l16;rate=16000"),
    ],
)
def test_content_type(wanted: MediaFormat, content_type: str) -> None:
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", (), wanted)).body)
    assert stream.get("contentType") == content_type
    assert stream.get("extraHeaders") is None
    assert stream.get("statusCallbackUrl") is None


def test_extra_headers_stay_within_512_bytes() -> None:
    parameters = [("a", "x" * 400), ("b", "y" * 400), ("c", "z" * 100)]
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", parameters)).body)
    assert stream.get("extraHeaders") == "a=" + "x" * 400 + ",c=" + "z" * 100


@pytest.mark.parametrize(
    ("answer", "markup"),
    [
        (carrier().answer_reject("busy"), '<Hangup reason="busy"/>'),
        (carrier().answer_reject("anything"), '<Hangup reason="rejected"/>'),
        (carrier().answer_hangup(), "<Hangup/>"),
        (
            carrier().answer_dial("+15550123", caller="+15550100", action_url="https://h/r?a=1&b=2"),
            '<Dial action="https://h/r?a=1&amp;b=2" method="POST" callerId="+15550100">'
            "<Number>+15550123</Number></Dial>",
        ),
        (
            carrier().answer_dial("sip:bob@acme.example", caller="", action_url="https://h/r"),
            '<Dial action="https://h/r" method="POST"><User>sip:bob@acme.example</User></Dial>',
        ),
        (
            carrier().answer_digits("12w#</DTMF>", resume_url="https://h/r"),
            '<DTMF>12w#D</DTMF><Redirect method="POST">https://h/r</Redirect>',
        ),
        (carrier().answer_park(), '<Wait length="3600"/>' * 24),
    ],
)
def test_other_answers(answer: Any, markup: str) -> None:
    assert answer.body.decode() == f"<?xml version='1.0' encoding='UTF-8'?>\n<Response>{markup}</Response>"


def test_no_verb_that_only_twilio_knows() -> None:
    # Any of them makes Plivo end the call with 8011.
    one = carrier()
    answers = [one.answer_reject("busy"), one.answer_park(), one.answer_empty(), one.answer_digits("1", resume_url="")]
    for answer in answers:
        assert not {"Reject", "Pause", "Say"} & {verb.tag for verb in etree.fromstring(answer.body)}
