from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.base import HttpRequest, Refused
from gateway.carriers.form import (
    LIMITS,
    Fields,
    ParsedRequest,
    offered_keys,
    parse_request,
    read,
    read_one,
    read_ours,
    read_query,
)
from tests.carriers.webhooks import FORM, get, golden, post, post_body, strangers


def fields_of(request: HttpRequest, *once: str) -> dict[str, list[str]]:
    fields = read(request, once=once)
    assert isinstance(fields, Fields)
    return {name: fields.getlist(name) for name in fields}


def multipart(*parts: str, boundary: str = "b", end: str = "--b--\r\n") -> HttpRequest:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + end
    return post_body(body.encode(), f"multipart/form-data; boundary={boundary}")


def part(name: str, value: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'


def test_blanks_repeats_and_case_are_kept() -> None:
    request = post_body(b"ToState=&to=a&To=%2B1&x=1&x=2&flag", FORM)
    assert fields_of(request) == {"ToState": [""], "to": ["a"], "To": ["+1"], "x": ["1", "2"], "flag": [""]}


def test_plus_is_a_space_and_percent_is_utf8() -> None:
    assert fields_of(post_body(b"City=New+York&Name=%E0%A4%AF", FORM)) == {"City": ["New York"], "Name": ["य"]}


def test_form_is_what_comes_without_a_content_type() -> None:
    assert fields_of(HttpRequest("POST", "/", "", {}, b"a=1")) == {"a": ["1"]}


def test_get_reads_the_query_and_post_does_not() -> None:
    assert fields_of(get("a=1")) == {"a": ["1"]}
    assert fields_of(post({"b": "2"}, query="a=1")) == {"b": ["2"]}


def test_json_object() -> None:
    request = post_body(
        b'{"s":"x","i":7,"t":true,"f":false,"n":null,"d":{"k":1},"l":[1]}', "application/json; charset=utf-8"
    )
    fields = read(request)
    assert isinstance(fields, Fields)
    assert fields.pairs() == [("s", "x"), ("i", "7"), ("t", "true"), ("f", "false"), ("n", "")]
    assert fields.tree["d"] == {"k": 1}


def test_nested_json_alone_is_not_nothing() -> None:
    # A signature over "no parameters" must never stand for such a body.
    fields = read(post_body(b'{"Stream":{"Status":"x"}}', "application/vnd.x+json"))
    assert fields
    assert isinstance(fields, Fields)
    assert len(fields) == 0


def test_multipart_as_captured() -> None:
    request = post_body(
        golden("exotel-04-statuscallback.multipart"),
        "multipart/form-data; boundary=form-data-boundary-lebu8d9e3h8xzvhf",
    )
    assert fields_of(request) == {
        "CallSid": ["ea70405f21228bcc2c083469a3b6dec5"],
        "Status": ["completed"],
        "DateUpdated": ["2025-01-15 18:14:07"],
    }


def test_multipart_with_other_headers_and_a_file_name() -> None:
    given = multipart(
        'X-Other: 1\r\ncontent-disposition: form-data; name="a"; filename="f.txt"\r\nContent-Type: text/plain\r\n\r\nv'
    )
    assert fields_of(given) == {"a": ["v"]}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (post_body(b"a=%FF", FORM), "bad_body"),
        (post_body(b"a=\xff", FORM), "bad_body"),
        (post_body(b"&".join([b"a=1"] * (LIMITS.fields + 1)), FORM), "bad_body"),
        (post_body(b"a=" + b"x" * (LIMITS.value + 1), FORM), "too_large"),
        (post_body(b"x" * (LIMITS.body + 1), FORM), "too_large"),
        (get("a=" + "x" * LIMITS.url), "too_large"),
        (get("a=%FF"), "bad_query"),
        (HttpRequest("GET", "/", "", {}, b"a=1"), "bad_body"),
        (HttpRequest("get", "/", "", {}), "bad_method"),
        (HttpRequest("PUT", "/", "", {}), "bad_method"),
        (post_body(b"<a/>", "text/xml"), "bad_body"),
        (post_body(b"{", "application/json"), "bad_body"),
        (post_body(b"[1]", "application/json"), "bad_body"),
        (post_body(b"[" * 5000, "application/json"), "bad_body"),
        (post_body(b'{"a":"\xff"}', "application/json"), "bad_body"),
        (
            post_body(b"{%s}" % b",".join(b'"%d":1' % i for i in range(LIMITS.fields + 1)), "application/json"),
            "bad_body",
        ),
        (multipart(part("a", "v"), end=""), "bad_body"),
        (multipart(part("a", "v"), boundary=""), "bad_body"),
        (multipart(part("a", "v"), boundary="b" * 71), "bad_body"),
        (multipart(part("a", "v"), boundary="c"), "bad_body"),
        (multipart("Content-Disposition: form-data\r\n\r\nv"), "bad_body"),
        (multipart("no header at all"), "bad_body"),
        (multipart(*[part("a", "v")] * (LIMITS.fields + 1)), "bad_body"),
        (
            post_body(
                b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--b--\r\n',
                "multipart/form-data; boundary=b",
            ),
            "bad_body",
        ),
    ],
)
def test_refused(request_: HttpRequest, reason: str) -> None:
    assert read(request_) == Refused(reason)


def test_strangers_bytes_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert read(post_body(b"--bX" * 1000, "multipart/form-data; boundary=b")) == Refused("bad_body")
    assert caplog.records == []


def test_core_field_twice_is_refused() -> None:
    assert read(post([("To", "1"), ("To", "2")]), once=("To",)) == Refused("duplicate_field")
    assert fields_of(post([("to", "1"), ("To", "2")]), "To") == {"to": ["1"], "To": ["2"]}


def test_fields_one_takes_the_first_that_is_not_empty() -> None:
    fields = Fields([("a", ""), ("b", ""), ("b", "2"), ("c", "3")])
    assert fields.one("a", "b", "c") == "2"
    assert fields.one("a", "zzz") == ""
    assert "a" in fields
    assert "z" not in fields
    assert not Fields()


def test_ours_of_a_post_is_the_whole_query_without_the_key() -> None:
    request = post({"CallSid": "CA1"}, query="serviceHost=a.b&session=s&key=secret&empty=")
    assert read_ours(request) == {"serviceHost": "a.b", "session": "s", "empty": ""}


def test_ours_of_a_get_has_only_our_names() -> None:
    request = get("CallSid=CA1&serviceHost=a.b&gw_session=s&flow_id=7&key=secret")
    assert read_ours(request) == {"serviceHost": "a.b", "gw_session": "s"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("serviceHost=a.b&serviceHost=c.d", "duplicate_field"),
        ("gw_x=1&gw_x=1", "duplicate_field"),
        ("a=%FF", "bad_query"),
    ],
)
def test_ours_refused(query: str, reason: str) -> None:
    assert read_ours(get(query)) == Refused(reason)


def basic(text: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text).decode()}


@pytest.mark.parametrize(
    ("request_", "offered"),
    [
        (get("key=k"), ("k", "")),
        (get("key=k&key=l"), ("", "")),
        (get("key=%FF"), ("", "")),
        (get("key=" + "k" * LIMITS.url), ("", "")),
        (get("", headers=basic(b"anyone:pass:word")), ("", "pass:word")),
        (get("", headers={"authorization": "basic dTpw"}), ("", "p")),
        (get("", headers=basic(b"no colon")), ("", "")),
        (get("", headers=basic(b"u:\xff")), ("", "")),
        (get("", headers={"authorization": "Bearer dTpw"}), ("", "")),
        (get("", headers={"authorization": "Basic ***"}), ("", "")),
        (get("", headers={"authorization": "Basic é"}), ("", "")),
        (get("", headers={"authorization": "Basic " + "A" * 4000}), ("", "")),
        (get("key=k", headers=basic(b"u:p")), ("k", "p")),
        (get("", headers=basic(b"u:" + b"p" * 1500)), ("", "p" * 1500)),
        (get("", headers=basic(b"u:" + b"p" * 1600)), ("", "")),  # more than 2048 in base64
    ],
)
def test_offered_keys(request_: HttpRequest, offered: tuple[str, str]) -> None:
    assert offered_keys(request_) == offered


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("serviceHost=a.b", "a.b"),
        ("x=1&serviceHost=a%2Eb", "a.b"),
        ("serviceHost=a.b&serviceHost=c.d", ""),
        ("serviceHost=", ""),
        ("servicehost=a.b", ""),
        ("serviceHost=%FF", ""),
        ("serviceHost=a.b&" + "x" * LIMITS.url, ""),
        ("", ""),
    ],
)
def test_a_value_of_which_there_must_be_one(query, value):
    assert read_one(query, "serviceHost") == value


@given(strangers)
def test_reading_is_total(request_: HttpRequest) -> None:
    assert isinstance(read(request_), Fields | Refused)
    assert isinstance(read_ours(request_), dict | Refused)
    assert all(isinstance(key, str) for key in offered_keys(request_))


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=20))
def test_what_was_written_is_read(pairs: list[tuple[str, Any]]) -> None:
    fields = read(post(pairs))
    assert isinstance(fields, Fields)
    assert sorted(fields.pairs()) == sorted(pairs)
    again = read_query(post(pairs).body.decode())
    assert isinstance(again, Fields)
    assert again.pairs() == fields.pairs()


def test_a_webhook_is_its_fields_and_ours_and_the_call_that_it_names() -> None:
    request = post({"Id": "", "Old": "c1", "From": "1"}, query="serviceHost=a.b&key=k")
    said = parse_request(request, once=("Id",), call_id=("Id", "Old"))
    assert isinstance(said, ParsedRequest)
    assert (said.fields.one("From"), said.ours, said.call_id) == ("1", {"serviceHost": "a.b"}, "c1")


@pytest.mark.parametrize(("call_id", "name"), [("", ""), ("x" * 512, "x" * 512), ("x" * 513, "")])
def test_a_call_has_a_name_that_ends(call_id: str, name: str) -> None:
    said = parse_request(post({"Id": call_id}), once=(), call_id=("Id",))
    assert isinstance(said, ParsedRequest)
    assert said.call_id == name


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (post([("Id", "1"), ("Id", "2")]), "duplicate_field"),
        (post({"Id": "1"}, query="gw_a=1&gw_a=2"), "duplicate_field"),
        (post({"Id": "1"}, query="a=%FF"), "bad_query"),
    ],
)
def test_what_is_not_understood(request_: HttpRequest, reason: str) -> None:
    assert parse_request(request_, once=("Id",), call_id=("Id",)) == Refused(reason)
