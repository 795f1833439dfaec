"""The stream key, and all that is the gateway's own, is kept from bots that read the carrier's `start`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.for_bots import without_own_parameters

KEY = "sk-secret-1"
EXOTEL = '{"event":"start","stream_sid":"s1","start":{"stream_sid":"s1","call_sid":"c1","custom_parameters":%s}}'
PLIVO = '{"event":"start","start":{"callId":"c1","streamId":"s1"},"extra_headers":%s}'


@pytest.mark.parametrize(
    ("start", "given", "left"),
    [
        (EXOTEL, {"key": KEY, "plan": "gold"}, {"plan": "gold"}),
        (EXOTEL, {"key": KEY}, {}),
        (EXOTEL, f"key={KEY}&plan=gold", "plan=gold"),
        (EXOTEL, f"plan=gold&key={KEY}", "plan=gold"),
        (EXOTEL, f"a=b&key={KEY}&plan=gold", "a=b&plan=gold"),
        (EXOTEL, f"a=b;key={KEY}", "a=b"),
        (EXOTEL, json.dumps({"key": KEY, "plan": "gold"}), '{"plan":"gold"}'),
        (
            EXOTEL,
            [{"name": "key", "value": KEY}, {"name": "plan", "value": "gold"}],
            [{"name": "plan", "value": "gold"}],
        ),
        (EXOTEL, {"gw_session": "1", "plan": "gold"}, {"plan": "gold"}),
        (PLIVO, f"{{key: {KEY}, plan: gold}}", "{plan: gold}"),
        (PLIVO, f"{{X-PH-key: {KEY}}}", "{}"),
    ],
)
def test_ours_is_taken_out_and_the_authors_stays(start, given, left):
    message = (start % json.dumps(given)).encode()
    cleaned = json.loads(without_own_parameters(message))
    assert cleaned == json.loads(start % json.dumps(left))


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (f"wss://v.example/ws/exotel?key={KEY}&serviceHost=a.b", "wss://v.example/ws/exotel?serviceHost=a.b"),
        (f"wss://v.example/ws/exotel?serviceHost=a.b&key={KEY}", "wss://v.example/ws/exotel?serviceHost=a.b"),
        (f"wss://any:{KEY}@v.example/ws/exotel", "wss://v.example/ws/exotel"),
        (f"wss://v.example/ws/exotel/s/a.b/{KEY}", "wss://v.example/ws/exotel/s/a.b/-"),
    ],
)
def test_a_url_in_a_start_has_no_key(url, left):
    message = json.dumps({"event": "start", "start": {"call_sid": "c1", "stream_url": url}}).encode()
    assert json.loads(without_own_parameters(message))["start"]["stream_url"] == left


@pytest.mark.parametrize(
    "message",
    [
        (EXOTEL % '{"plan": "gold"}').encode(),
        (EXOTEL % '"keyword=gold&monkey=1"').encode(),
        b'{"event":"connected", "protocol": "Call"}',
        b'{"event":"start", no JSON',
        b'"start"',
    ],
)
def test_what_holds_nothing_of_ours_stays_to_the_byte(message):
    assert without_own_parameters(message) == message


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_nothing_raises(value):
    without_own_parameters(json.dumps({"event": "start", "start": value, "custom_parameters": value}).encode())
