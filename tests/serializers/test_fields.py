"""Reading what carriers write, in all the shapes in which they write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import MediaFormat
from serializers.fields import (
    MAX_DEPTH,
    MAX_PARAMETERS,
    MAX_TEXT,
    encoding_name,
    folded,
    media_format,
    parameters,
    text_of,
)

DEFAULT = MediaFormat("mulaw", 8000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize("key", ["streamSid", "stream_sid", "StreamSid", "STREAM_SID", "streamsid"])
def test_folded_levels_case_and_underscores(key):
    assert folded({key: "x"}) == {"streamsid": "x"}


def test_folded_prefers_what_is_not_null():
    assert folded({"callSid": None, "call_sid": "x"}) == {"callsid": "x"}
    assert folded({"call_sid": "x", "callSid": "y"}) == {"callsid": "x"}


@pytest.mark.parametrize("value", [None, [], [1], "text", 5, True])
def test_folded_of_anything_else_is_empty(value):
    assert folded(value) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (5, "5"), (0, "0"), (True, ""), (None, ""), ([], ""), ({}, ""), (1.5, ""), ("", "")],
)
def test_text_of(value, text):
    assert text_of({"a": value}, "a") == text


def test_text_of_takes_the_first_that_is_there():
    assert text_of({"a": None, "b": "x", "c": "y"}, "z", "a", "b", "c") == "x"
    assert text_of({}, "a") == ""


def test_text_too_long_reads_as_absent():
    assert text_of({"a": "x" * MAX_TEXT}, "a")
    assert text_of({"a": "x" * (MAX_TEXT + 1)}, "a") == ""


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("audio/x-mulaw", "mulaw"),
        ("audio/mulaw", "mulaw"),
        ("PCMU", "mulaw"),
        ("pcmu", "mulaw"),
        ("ulaw", "mulaw"),
        ("PCMA", "alaw"),
        ("audio/x-alaw", "alaw"),
        ("L16", "l16"),
        ("audio/x-l16", "l16"),
        (" audio/L16 ", "l16"),
        ("G722", "g722"),
        ("OPUS", "opus"),
        ("audio/x-raw", "audio/x-raw"),
        ("", ""),
    ],
)
def test_encoding_names(word, name):
    assert encoding_name(word) == name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"encoding": "PCMA", "sample_rate": 8000}, MediaFormat("alaw", 8000)),
        ({"encoding": "audio/x-l16", "sampleRate": "16000"}, MediaFormat("l16", 16000)),
        ({"encoding": "audio/x-l16;rate=16000"}, MediaFormat("l16", 16000)),
        ({"encoding": "L16", "sample_rate": "24000Hz"}, MediaFormat("l16", 24000)),
        ({"sample_rate": " 16000 Hz"}, MediaFormat("mulaw", 16000)),
        ({"sample_rate": "16kHz"}, MediaFormat("mulaw", 16000)),
        ({"sample_rate": "16 KHz"}, MediaFormat("mulaw", 16000)),
        ({"sample_rate": 16000.0}, MediaFormat("mulaw", 16000)),
        ({"sample_rate": "16000.0"}, MediaFormat("mulaw", 16000)),
        ({"sample_rate": "22.05kHz"}, MediaFormat("mulaw", 22050)),
        ({"sample_rate": "16k"}, MediaFormat("mulaw", 16000)),
        ({"encoding": "audio/x-l16;rate=16kHz"}, MediaFormat("l16", 16000)),
        ({"sample_rate": "16.000.000"}, DEFAULT),
        ({"sample_rate": 1e400}, DEFAULT),
        ({"sample_rate": True}, DEFAULT),
        ({"encoding": None, "sampleRate": None}, DEFAULT),
        ({"encoding": [], "sampleRate": {}}, DEFAULT),
        ({"sampleRate": 0}, DEFAULT),
        ({"sampleRate": -8000}, DEFAULT),
        ({"sampleRate": 10**9}, DEFAULT),
        ({"sampleRate": "fast"}, DEFAULT),
        ({}, DEFAULT),
        (None, DEFAULT),
        ([{"encoding": "PCMA"}], DEFAULT),
    ],
)
def test_media_format(value, expected):
    assert media_format(value, DEFAULT) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "b", "n": 1}, {"a": "b", "n": 1}),
        ([{"name": "a", "value": "b"}, {"name": "c"}], {"a": "b", "c": None}),
        ([{"name": 5}, "x", None, []], {}),
        ("k=v;k2=v2", {"k": "v", "k2": "v2"}),
        ("k=v,k2=v2", {"k": "v", "k2": "v2"}),
        ("k=v&k2=v2", {"k": "v", "k2": "v2"}),
        ("userId=12345;list=a,b", {"userId": "12345", "list": "a,b"}),
        ("url=https://example.com/?a=b", {"url": "https://example.com/?a=b"}),
        ("{}", {}),
        ("{X-PH-key1: value1}", {"X-PH-key1": "value1"}),
        ('{"key1": "value1"}', {"key1": "value1"}),
        ('[{"name": "a", "value": "b"}]', {"a": "b"}),
        ("{a: b, c: d}", {"a": "b", "c": "d"}),
        ("=v;;k", {}),
        ("", {}),
        ("5", {}),
        ("null", {}),
        (None, {}),
        (5, {}),
        ("k=" + "v" * 10_000, {}),
    ],
)
def test_parameters_in_every_shape(value, expected):
    assert parameters(value) == expected


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value] if depth % 2 else {"in": value}
    return value


def test_parameters_nested_too_deep_are_left_out():
    deep = {"fine": nested(MAX_DEPTH), "list": nested(MAX_DEPTH + 1), "object": nested(MAX_DEPTH + 2)}
    assert list(parameters(deep)) == ["fine"]


def test_parameters_are_bounded():
    assert len(parameters({str(n): n for n in range(10 * MAX_PARAMETERS)})) == MAX_PARAMETERS
    assert parameters({"k" * (MAX_TEXT + 1): "v"}) == {}


@given(JSON)
def test_total_on_any_json(value):
    folded(value)
    text_of(folded(value), "a", "b")
    assert isinstance(media_format(value, DEFAULT), MediaFormat)
    assert isinstance(parameters(value), dict)


@given(st.text())
def test_parameters_total_on_any_text(text):
    assert isinstance(parameters(text), dict)
