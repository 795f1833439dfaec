from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import pcm

START = pcm.Start(
    session_id="s1",
    service_host="support.acme",
    carrier="twilio",
    fence=1700000000000001,
    call={"call_id": "CA1", "from": "+15550100", "to": "+15550199", "body": {"k": "ü"}},
    sample_rate=16000,
    resumed=True,
    attempt=2,
    state=b"\x00\xff",
)

TO_WORKER = [
    (
        START,
        '{"type":"start","session_id":"s1","service_host":"support.acme","carrier":"twilio","fence":1700000000000001,'
        '"call":{"call_id":"CA1","from":"+15550100","to":"+15550199","body":{"k":"ü"}},'
        '"audio":{"encoding":"pcm_s16le","sample_rate":16000,"channels":1},"resumed":true,"attempt":2,"state":"AP8="}',
    ),
    (pcm.Dtmf("#"), '{"type":"dtmf","digit":"#"}'),
    (pcm.MarkReached("m", True), '{"type":"mark","name":"m","played":true}'),
    (pcm.Cleared(1000, 200), '{"type":"cleared","played_ms":1000,"dropped_ms":200}'),
    (pcm.Played(3000), '{"type":"played","ms":3000}'),
    (
        pcm.Status("refused", {"what": "transfer", "reason": "no"}),
        '{"what":"transfer","reason":"no","type":"status","status":"refused"}',
    ),
    (pcm.Stop("caller_hangup"), '{"type":"stop","reason":"caller_hangup"}'),
]

TO_GATEWAY = [
    (pcm.Ready(), '{"type":"ready"}'),
    (pcm.Clear(), '{"type":"clear"}'),
    (pcm.SetMark("m"), '{"type":"mark","name":"m"}'),
    (pcm.SendDtmf("12#wW"), '{"type":"dtmf","digits":"12#wW"}'),
    (pcm.Transfer("+15550123"), '{"type":"transfer","to":"+15550123"}'),
    (pcm.Hangup("bye"), '{"type":"hangup","reason":"bye"}'),
    (pcm.State(b"\x00\xff"), '{"type":"state","state":"AP8="}'),
    (pcm.PauseRecording(), '{"type":"pause_recording"}'),
    (pcm.ResumeRecording(), '{"type":"resume_recording"}'),
]


@pytest.mark.parametrize(("message", "text"), TO_WORKER, ids=lambda x: type(x).__name__)
def test_what_goes_to_the_worker_and_back(message: pcm.ToWorker, text: str) -> None:
    assert pcm.encode(message) == text
    assert pcm.decode_to_worker(text) == message
    assert pcm.decode_to_worker(text.encode()) == message


@pytest.mark.parametrize(("message", "text"), TO_GATEWAY, ids=lambda x: type(x).__name__)
def test_what_goes_to_the_gateway_and_back(message: pcm.ToGateway, text: str) -> None:
    assert pcm.encode(message) == text
    assert pcm.decode_to_gateway(text) == message


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(TO_WORKER[0][1]), **changes})


def test_a_start_with_the_least_that_makes_sense() -> None:
    start = pcm.decode_to_worker('{"type":"start","call":{},"audio":{"sample_rate":8000}}')
    assert start == pcm.Start("", "", "", 0, {}, 8000, False, 1, b"")


@pytest.mark.parametrize(
    "text",
    [
        changed(call=None),
        changed(audio=[]),
        changed(audio={"sample_rate": 0}),
        changed(audio={"sample_rate": "8000"}),
        '{"type":"from a newer gateway"}',
        '{"type":1}',
        "{}",
        "[]",
        "x",
        '{"type":"ready"}',
    ],
)
def test_what_makes_no_sense_to_a_worker_is_none(text: str) -> None:
    assert pcm.decode_to_worker(text) is None


def test_wrong_types_in_a_start_read_as_if_absent() -> None:
    start = pcm.decode_to_worker(changed(fence="9", resumed="yes", attempt=None, state="!", session_id=5))
    assert isinstance(start, pcm.Start)
    assert (start.fence, start.resumed, start.attempt, start.state, start.session_id) == (0, False, 1, b"", "")


def test_a_status_cannot_be_disguised_by_its_fields() -> None:
    assert pcm.decode_to_worker(pcm.encode(pcm.Status("human", {"type": "stop", "status": "x"}))) == pcm.Status(
        "human", {}
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"dtmf"}',
        '{"type":"dtmf","digits":"xyz"}',
        '{"type":"transfer","to":""}',
        '{"type":"transfer","to":15550123}',
        '{"type":"state"}',
        '{"type":"state","state":"no base64"}',
        '{"type":"state","state":"' + "A" * 24000 + '"}',
        '{"type":"start"}',
        "null",
    ],
)
def test_what_makes_no_sense_to_a_gateway_is_none(text: str) -> None:
    assert pcm.decode_to_gateway(text) is None


def test_what_a_bot_says_is_cut_to_size() -> None:
    long = "9" * 1000
    assert pcm.decode_to_gateway(pcm.encode(pcm.SetMark(long))) == pcm.SetMark("9" * 256)
    assert pcm.decode_to_gateway(pcm.encode(pcm.SendDtmf(long))) == pcm.SendDtmf("9" * 64)
    assert pcm.decode_to_gateway(pcm.encode(pcm.Transfer(long))) == pcm.Transfer("9" * 256)
    assert pcm.decode_to_gateway(pcm.encode(pcm.Hangup(long))) == pcm.Hangup("9" * 256)
    assert pcm.decode_to_gateway('{"type":"dtmf","digits":"1 2-3\\n"}') == pcm.SendDtmf("123")
    full = pcm.State(bytes(pcm.MAX_STATE))
    assert pcm.decode_to_gateway(pcm.encode(full)) == full


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    "session_id",
    "call",
    "audio",
    "sample_rate",
    "fence",
    "attempt",
    "state",
    "digit",
    "name",
    "played",
    "ms",
    "status",
    "reason",
    "digits",
    "to",
]
TYPES = [
    "start",
    "dtmf",
    "mark",
    "cleared",
    "played",
    "status",
    "stop",
    "ready",
    "clear",
    "transfer",
    "hangup",
    "state",
]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_object_raises(kind: str, fields: dict[str, Any]) -> None:
    text = json.dumps({**fields, "type": kind})
    for message in (pcm.decode_to_worker(text), pcm.decode_to_gateway(text)):
        if message is not None:
            pcm.encode(message)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    pcm.decode_to_worker(data)
    pcm.decode_to_gateway(data)
