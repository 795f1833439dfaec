from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.fields import bytes_of, count_of, int_of, json_object, name_of, seconds_of, str_of


@pytest.mark.parametrize("text", ['{"a":1}', b'{"a":1}', ' {"a" : 1}\n'])
def test_json_object_is_read_from_text_and_bytes(text: str | bytes) -> None:
    assert json_object(text) == {"a": 1}


@pytest.mark.parametrize("text", ["", "[]", "1", "null", '"a"', "{", '{"a":NaN}', b"\xff", b'{"a":"\xff"}', "[" * 5000])
def test_json_object_is_none_for_anything_else(text: str | bytes) -> None:
    assert json_object(text) is None


@given(st.binary() | st.text(st.characters(codec=None)))
def test_json_object_never_raises(text: str | bytes) -> None:
    json_object(text)


@pytest.mark.parametrize("wrong", [None, 1, True, ["a"], {"a": 1}])
def test_str_of_takes_strings_only(wrong: Any) -> None:
    assert str_of({"k": "v"}, "k") == "v"
    assert str_of({"k": wrong}, "k") == str_of({}, "k") == ""


@pytest.mark.parametrize("wrong", [None, 1.5, True, "1", [1]])
def test_int_of_takes_whole_numbers_only(wrong: Any) -> None:
    assert int_of({"k": -7}, "k") == -7
    assert int_of({"k": wrong}, "k") == int_of({}, "k") == 0


@pytest.mark.parametrize("wrong", [None, "1", 0, -1, [], True])
def test_seconds_of_takes_positive_numbers_only(wrong: Any) -> None:
    assert seconds_of({"k": 2}, "k", 9.0) == 2.0
    assert seconds_of({"k": 0.5}, "k", 9.0) == 0.5
    assert seconds_of({"k": wrong}, "k", 9.0) == seconds_of({}, "k", 9.0) == 9.0


@pytest.mark.parametrize("wrong", [None, 1, "AP8", "A P8=", "AP8=!", "ü", "_-8="])
def test_bytes_of_takes_standard_base64_only(wrong: Any) -> None:
    assert bytes_of({"k": "AP8="}, "k") == b"\x00\xff"
    assert bytes_of({"k": wrong}, "k") is None
    assert bytes_of({}, "k") is None
    assert bytes_of({"k": ""}, "k") == b""


def test_count_of_is_bounded_and_absent_is_0() -> None:
    assert [count_of({"k": n}, "k", 9) for n in (0, 9, 10, -1, 2**64)] == [0, 9, None, None, None]
    assert count_of({}, "k", 9) == count_of({"k": "7"}, "k", 9) == 0


def test_name_of_is_bounded_printable_and_absent_is_empty() -> None:
    assert [name_of({"k": n}, "k", 3) for n in ("abc", "abcd", "a\n", "ü")] == ["abc", None, None, "ü"]
    assert name_of({}, "k", 3) == name_of({"k": 7}, "k", 3) == ""


def test_seconds_that_no_timer_takes_are_the_default() -> None:
    assert seconds_of({"k": 1e300}, "k", 2.0) == seconds_of({"k": 10**30}, "k", 2.0) == 2.0
