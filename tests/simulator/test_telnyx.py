"""Telnyx against documented messages; its signature against Telnyx's own SDK."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from nacl.signing import VerifyKey

from gateway.errors import UnsupportedCodec
from gateway.simulator.carrier import Clear, Mark, Play, Reply, Request, StreamSpec
from gateway.simulator.telnyx import SimulatedTelnyx, TelnyxAccount, TelnyxWire

from .plans import plan

START = json.loads(
    '{"event":"start","sequence_number":"1","start":{"user_id":"b34166f2-7846-1262-7cde-760c40e59e92",'
    '"call_control_id":"v2:ecebaaccbca5680e8a5c1816f7680917c9f94256-358eed2c26",'
    '"call_session_id":"977df671-6397-8b33-d269-5e7bfeb16ebe","from":"+15550100005","to":"+15550100006",'
    '"tags":["TAG1","TAG2"],"client_state":"aGF2ZSBhIG5pY2UgZGF5ID1d",'
    '"media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}},'
    '"stream_id":"79e2d95b-1dda-364e-de91-d8f95a97f662"}'
)
APPLICATION = TelnyxAccount(bytes(range(32)))
RTP = {"bidirectionalMode": "rtp"}


def carrier(**more: Any) -> SimulatedTelnyx:
    return SimulatedTelnyx(plan("telnyx", **more))


def wire(attributes: dict[str, str] | None = None, **more: Any) -> TelnyxWire:
    return TelnyxWire(carrier(**more), StreamSpec("wss://h/ws", RTP if attributes is None else attributes))


def same_shape(ours: Any, theirs: Any) -> bool:
    """The same keys in the same order, and values of the same types."""
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same_shape(ours[key], theirs[key]) for key in theirs)
    return type(ours) is type(theirs)


def test_start_has_the_documented_shape() -> None:
    w = wire()
    start = json.loads(w.start())
    assert same_shape(start, START)
    assert start["start"]["call_control_id"] == w.carrier.call_id
    assert start["stream_id"] == w.stream_id


def test_custom_parameters_are_in_start() -> None:
    w = TelnyxWire(carrier(), StreamSpec("wss://h/ws", RTP, {"k": "v"}))
    assert json.loads(w.start())["start"]["custom_parameters"] == {"k": "v"}


def test_the_other_messages_are_the_documented_ones() -> None:
    w = wire()
    assert w.connected() == '{"event":"connected","version":"1.0.0"}'
    assert json.loads(w.media(5, b"AAAA")) == {
        "event": "media",
        "sequence_number": "1",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "AAAA"},
        "stream_id": w.stream_id,
    }
    assert list(json.loads(w.dtmf("1"))) == ["event", "stream_id", "occurred_at", "sequence_number", "dtmf"]
    assert json.loads(w.mark("m"))["mark"] == {"name": "m"}
    assert json.loads(w.stop("callended"))["stop"]["call_control_id"] == w.carrier.call_id


@pytest.mark.parametrize(
    ("attributes", "encoding", "inbound", "outbound"),
    [
        (RTP, None, ("PCMU", 8000), ("PCMU", 8000)),
        (RTP, "PCMA", ("PCMA", 8000), ("PCMU", 8000)),
        (RTP | {"bidirectionalCodec": "PCMA"}, "PCMA", ("PCMA", 8000), ("PCMA", 8000)),
        (RTP | {"codec": "PCMU"}, "PCMA", ("PCMU", 8000), ("PCMU", 8000)),
        (
            RTP | {"codec": "L16", "bidirectionalCodec": "L16", "bidirectionalSamplingRate": "16000"},
            None,
            ("L16", 16000),
            ("L16", 16000),
        ),
    ],
)
def test_inward_the_leg_decides_and_outward_the_xml(
    attributes: dict[str, str], encoding: str | None, inbound: tuple[str, int], outbound: tuple[str, int]
) -> None:
    w = wire(attributes, encoding=encoding)
    assert (w.inbound.name, w.inbound.rate) == inbound
    assert (w.outbound.name, w.outbound.rate) == outbound
    assert json.loads(w.start())["start"]["media_format"]["encoding"] == inbound[0]


@pytest.mark.parametrize("attributes", [{"bidirectionalCodec": "OPUS"}, {"bidirectionalSamplingRate": "x"}])
def test_an_unknown_codec_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(UnsupportedCodec):
        wire(attributes)


def media(payload: bytes) -> str:
    return json.dumps({"event": "media", "media": {"payload": base64.b64encode(payload).decode()}})


def test_media_clear_and_mark_are_understood_without_a_stream_id() -> None:
    w = wire()
    assert w.read(media(bytes(160))) == Play(bytes(160))
    assert w.read('{"event":"clear"}') == Clear()
    assert w.read('{"event":"mark","mark":{"name":"m"}}') == Mark("m")
    assert w.violations == []


def test_without_mode_rtp_all_audio_is_dropped() -> None:
    w = wire({})
    assert w.read(media(bytes(160))) is None
    assert w.read(media(bytes(160))) is None
    assert len(w.violations) == 1
    assert "rtp" in w.violations[0]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 100003),
        (b"\0", 100003),
        ('{"event":"stop"}', 100003),
        ('{"event":"mark"}', 100003),
        ('{"event":"media"}', 100004),
        ('{"event":"media","media":{"payload":"="}}', 100004),
        (media(bytes(8000 * 31)), 100003),
    ],
)
def test_errors_come_in_band(message: str | bytes, code: int) -> None:
    w = wire()
    answer = w.read(message)
    assert isinstance(answer, Reply)
    assert json.loads(answer.message)["payload"]["code"] == code
    assert len(w.violations) == 1


def test_less_than_20_ms_is_told() -> None:
    w = wire()
    assert w.read(media(bytes(80))) == Play(bytes(80))
    assert "20 ms" in w.violations[0]


# ------------------------------------------------------------------------------------------------------------ HTTP


def test_the_signature_passes_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    from telnyx import Telnyx

    telnyx = carrier()
    body = b'{"data":{"event_type":"call.initiated","id":"0ccc7b54-4df3-4bca-a65a-3da1ecc777f0","record_type":"event"}}'
    headers = telnyx.headers(Request("POST", "https://h/v"), body)
    client = Telnyx(api_key="k", public_key=APPLICATION.public_key)
    client.webhooks.unwrap(body.decode(), headers=headers)
    client.close()


def test_the_signature_is_the_derived_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    telnyx = carrier()
    monkeypatch.setattr(telnyx, "now", lambda: 1760000000.5)
    body = b'{"data":{"event_type":"call.initiated","id":"0ccc7b54-4df3-4bca-a65a-3da1ecc777f0","record_type":"event"}}'
    assert telnyx.headers(Request("POST", "https://h/v"), body) == {
        "telnyx-timestamp": "1760000000",
        "telnyx-signature-ed25519": (
            "bhOI36qtEQW6ujkOp95XuE0uml4giw9RI5is3yqrhHXCCtglefik0C04cExzUwCRvPfjOzPfZJW4ktthRhy2BA=="
        ),
    }


def test_a_stale_timestamp_is_signed_all_the_same() -> None:
    telnyx, honest = carrier(faults={"stale_timestamp": True}), carrier()
    headers = telnyx.headers(Request("POST", "https://h/v"), b"body")
    stale = int(headers["telnyx-timestamp"])
    assert int(honest.headers(Request("POST", "https://h/v"), b"")["telnyx-timestamp"]) - stale >= 3599
    key = VerifyKey(base64.b64decode(APPLICATION.public_key))
    key.verify(f"{stale}|body".encode(), base64.b64decode(headers["telnyx-signature-ed25519"]))


def test_unsigned_means_no_headers() -> None:
    assert carrier(credentials=None).headers(Request("POST", "https://h/v"), b"") == {}


def test_the_fetch_has_the_call_in_both_forms() -> None:
    telnyx = carrier()
    fields = dict(telnyx.instructions("https://h/v", "POST", answered=False).fields)
    assert fields["CallSid"] == fields["CallSidLegacy"] == telnyx.call_id
    assert fields["CallSid"].startswith("v3:")
    assert fields["ConnectionId"] == APPLICATION.connection_id
    assert fields["CallStatus"] == "ringing"
    assert "CallbackSource" not in fields


def test_the_end_is_a_progress_event() -> None:
    (request,) = carrier().ended("busy", 3)
    fields = dict(request.fields)
    assert fields["CallbackSource"] == "call-progress-events"
    assert (fields["CallStatus"], fields["HangupCause"]) == ("completed", "call_rejected")


def test_stream_events_and_reconnecting_follow_the_attributes() -> None:
    telnyx, w = carrier(), wire()
    spec = StreamSpec("wss://h/ws", {"statusCallback": "https://h/s", "enableReconnect": "false"})
    request = telnyx.stream_event(w, spec, "error", "x")
    assert request is not None
    assert dict(request.fields)["StreamEvent"] == "stream-error"
    assert telnyx.stream_event(w, StreamSpec("wss://h/ws"), "started") is None
    assert not telnyx.reconnects(spec)
    assert telnyx.reconnects(StreamSpec("wss://h/ws"))


def test_a_dial_tells_its_result() -> None:
    assert dict(carrier().dial_fields("no-answer"))["DialCallStatus"] == "no-answer"
