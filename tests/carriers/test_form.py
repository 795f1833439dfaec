from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.base import HttpRequest, Refused
from gateway.carriers.form import (
    LIMITS,
    Fields,
    ParsedRequest,
    WebhookSchema,
    offered_keys,
    parse_request,
    read,
    read_one,
    read_query,
    wire,
)
from gateway.carriers.multipart import MAX_HEADER, MAX_HEADERS
from gateway.carriers.parameters import OwnParameters
from serializers.base import IdPatterns
from tests.carriers.webhooks import FORM, get, post, post_body, strangers
from tests.kit.golden import golden_bytes

SCHEMA = WebhookSchema(
    core=frozenset({"Id", "To", "Status"}),
    call_id=("Id", "Old"),
    ids=IdPatterns(call="c[0-9]{1,60}"),
    known=frozenset({"From", "flow_id"}),
    known_prefixes=("Sip_",),
    multipart=True,
)


def fields_of(request: HttpRequest) -> dict[str, list[str]]:
    fields = read(request, SCHEMA)
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
    fields = read(request, SCHEMA)
    assert isinstance(fields, Fields)
    assert fields.pairs() == [("s", "x"), ("i", "7"), ("t", "true"), ("f", "false"), ("n", "")]
    assert fields.tree["d"] == {"k": 1}


def test_nested_json_alone_is_not_nothing() -> None:
    # A signature over "no parameters" must never stand for such a body.
    fields = read(post_body(b'{"Stream":{"Status":"x"}}', "application/vnd.x+json"), SCHEMA)
    assert fields
    assert isinstance(fields, Fields)
    assert len(fields) == 0


def test_multipart_as_captured() -> None:
    request = post_body(
        golden_bytes("exotel-04-statuscallback.multipart"),
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
        (post_body(b"&".join([b"a=1"] * (LIMITS.fields + 1)), FORM), "bad_body"),
        (post_body(b"a=%zz" + b"x" * LIMITS.odd_escapes, FORM), "bad_body"),
        (post_body(b"x" * (LIMITS.body + 1), FORM), "too_large"),
        (get("a=" + "x" * LIMITS.url), "too_large"),
        (get("&".join(["a=1"] * (LIMITS.fields + 1))), "bad_query"),
        (post_body(b'{"a":"%s"}' % (b"x" * LIMITS.json), "application/json"), "too_large"),
        (post_body(b"a=1", FORM + " " * LIMITS.content_type), "bad_body"),
        (HttpRequest("GET", "/", "", {}, b"a=1"), "bad_body"),
        (HttpRequest("get", "/", "", {}), "bad_method"),
        (HttpRequest("PUT", "/", "", {}), "bad_method"),
        (post_body(b"<a/>", "text/xml"), "bad_body"),
        (post_body(b"{", "application/json"), "bad_body"),
        (post_body(b"[1]", "application/json"), "bad_body"),
        (post_body(b"[" * 5000, "application/json"), "bad_body"),
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
        (multipart("Content-Disposition: form-data; " + "a;" * MAX_HEADER + 'name="a"\r\n\r\nv'), "bad_body"),
        (multipart("X-" + "x" * MAX_HEADER + ": 1\r\n" + part("a", "v")), "bad_body"),
        (multipart("X: 1\r\n" * MAX_HEADERS + part("a", "v")), "bad_body"),
    ],
)
def test_refused(request_: HttpRequest, reason: str) -> None:
    assert read(request_, SCHEMA) == Refused(reason)


def test_multipart_is_read_only_where_the_carrier_sends_it() -> None:
    assert fields_of(multipart(part("a", "v"))) == {"a": ["v"]}
    assert read(multipart(part("a", "v")), replace(SCHEMA, multipart=False)) == Refused("bad_body")


@pytest.mark.parametrize(
    ("request_", "raw"),
    [
        (post_body(b"Id=c1&CallerName=Jos%E9", FORM), b"Jos\xe9"),
        (post_body(b"Id=c1&CallerName=Jos\xe9", FORM), b"Jos\xe9"),
        (get("Id=c1&CallerName=Jos%E9"), b"Jos\xe9"),
        (post_body(b"Id=c1&CallerName=%FF%C3%A9", FORM), b"\xff\xc3\xa9"),
        (post_body(b"Id=c1&CallerName=\xff%zz", FORM), b"\xff%zz"),
    ],
)
def test_a_byte_that_is_not_utf8_costs_its_text_only(request_: HttpRequest, raw: bytes) -> None:
    fields = read(request_, SCHEMA)
    assert isinstance(fields, Fields)
    assert [wire(value) for value in fields.getlist("CallerName")] == [raw]
    assert fields.one("CallerName") == raw.decode("utf-8", "replace")
    assert isinstance(parse_request(request_, SCHEMA), ParsedRequest)


@pytest.mark.parametrize(
    "request_",
    [
        post_body(b'{"Id":"c1","CallerName":"Jos\xe9"}', "application/json"),
        post_body(
            b'--b\r\nContent-Disposition: form-data; name="CallerName"\r\n\r\nJos\xe9\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_nor_does_it_in_json_and_multipart(request_: HttpRequest) -> None:
    fields = read(request_, SCHEMA)
    assert isinstance(fields, Fields)
    assert fields.one("CallerName") == "Jos\ufffd"


@given(st.binary(max_size=60))
def test_a_form_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    fields = read(post_body(body, FORM), SCHEMA)
    if fields == Refused("duplicate_field"):
        return
    assert isinstance(fields, Fields)
    expected = parse_qsl(body.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape")
    assert sorted(fields.pairs()) == sorted(expected)


def test_strangers_bytes_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert read(post_body(b"--bX" * 1000, "multipart/form-data; boundary=b"), SCHEMA) == Refused("bad_body")
    assert caplog.records == []


def test_core_field_twice_is_refused() -> None:
    assert read(post([("To", "1"), ("To", "2")]), SCHEMA) == Refused("duplicate_field")
    assert fields_of(post([("to", "1"), ("To", "2")])) == {"to": ["1"], "To": ["2"]}


def test_fields_one_takes_the_first_that_is_not_empty() -> None:
    fields = Fields([("a", ""), ("b", ""), ("b", "2"), ("c", "3")])
    assert fields.one("a", "b", "c") == "2"
    assert fields.one("a", "zzz") == ""
    assert "a" in fields
    assert "z" not in fields
    assert not Fields()


AUTHORS = {"campaign": "x", "attempt": "40", "session": "s17", "after": "lunch"}


def test_the_query_of_a_post_is_the_authors() -> None:
    parsed = parse_request(post({"Id": "c1"}, query=f"{urlencode(AUTHORS)}&serviceHost=a.b&key=secret&empty="), SCHEMA)
    assert isinstance(parsed, ParsedRequest)
    assert parsed.custom_params == {**AUTHORS, "empty": ""}
    assert parsed.own == OwnParameters(service_host="a.b")


@pytest.mark.parametrize(
    "query",
    [
        f"{urlencode(AUTHORS)}&Id=c1&From=%2B1&flow_id=7&Sip_x=1",
        f"Id=c1&From=%2B1&flow_id=7&{urlencode(AUTHORS)}&Sip_x=1",
        f"Id=c1&NewField=2026&From=%2B1&flow_id=7&Sip_x=1&gw_attempt=3&key=k&serviceHost=a.b&{urlencode(AUTHORS)}",
    ],
)
def test_the_authors_query_is_told_from_the_carriers_fields(query: str) -> None:
    parsed = parse_request(get(query), SCHEMA)
    assert isinstance(parsed, ParsedRequest)
    assert parsed.custom_params == AUTHORS
    assert {"Id", "From", "flow_id", "Sip_x"} <= set(parsed.fields) <= {"Id", "From", "flow_id", "Sip_x", "NewField"}


def test_a_capitalized_name_before_the_carriers_is_the_authors() -> None:
    parsed = parse_request(get("Campaign=x&Id=c1&NewField=1"), SCHEMA)
    assert isinstance(parsed, ParsedRequest)
    assert parsed.custom_params == {"Campaign": "x"}


@pytest.mark.parametrize("query", ["serviceHost=a.b&serviceHost=c.d", "gw_x=1&gw_x=1"])
def test_our_own_parameters_come_once(query: str) -> None:
    assert parse_request(get(query), SCHEMA) == Refused("duplicate_field")


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
    assert isinstance(read(request_, SCHEMA), Fields | Refused)
    assert isinstance(parse_request(request_, SCHEMA), ParsedRequest | Refused)
    assert all(isinstance(key, str) for key in offered_keys(request_))


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=20))
def test_what_was_written_is_read(pairs: list[tuple[str, Any]]) -> None:
    fields = read(post(pairs), replace(SCHEMA, core=frozenset()))
    assert isinstance(fields, Fields)
    assert sorted(fields.pairs()) == sorted(pairs)
    again = read_query(post(pairs).body.decode())
    assert isinstance(again, Fields)
    assert again.pairs() == fields.pairs()


def test_a_webhook_is_its_fields_the_parameters_and_the_call() -> None:
    request = post({"Id": "", "Old": "c1", "From": "1"}, query="serviceHost=a.b&key=k&n=1")
    parsed = parse_request(request, SCHEMA)
    assert isinstance(parsed, ParsedRequest)
    assert (parsed.fields.one("From"), parsed.own.service_host, parsed.custom_params) == ("1", "a.b", {"n": "1"})
    assert parsed.call_id == "c1"


@pytest.mark.parametrize("call_id", [".", "..", "c1/../c2", "c1.json", "c1\n", "v3:x", "c" + "1" * 61, "c1?x", "c%2f"])
def test_what_can_be_no_call_id_is_refused(call_id: str) -> None:
    assert parse_request(post({"Id": call_id}), SCHEMA) == Refused("bad_call_id")


@pytest.mark.parametrize(
    "request_",
    [post([("Id", "c1"), ("Id", "c2")]), post({"Id": "c1"}, query="gw_a=1&gw_a=2")],
)
def test_what_is_not_understood(request_: HttpRequest) -> None:
    assert parse_request(request_, SCHEMA) == Refused("duplicate_field")
