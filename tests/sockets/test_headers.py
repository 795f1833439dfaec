"""Header lines: which are joined, and which upgrade is one."""

from __future__ import annotations

import pytest

from gateway.sockets.headers import LIST_HEADERS, asks_for_websocket, combine, list_members


def test_lines_of_a_list_are_joined_in_order() -> None:
    lines = [("X-Forwarded-For", "192.0.2.1"), ("Host", "a"), ("x-forwarded-for", "192.0.2.2, 192.0.2.3")]
    assert combine(lines) == {"x-forwarded-for": "192.0.2.1, 192.0.2.2, 192.0.2.3", "host": "a"}


def test_of_any_other_header_the_first_line_counts() -> None:
    lines = [("X-Twilio-Signature", "first"), ("x-twilio-signature", "second"), ("Host", "a"), ("HOST", "b")]
    assert combine(lines) == {"x-twilio-signature": "first", "host": "a"}


def test_a_carrier_may_declare_lists_of_its_own() -> None:
    lines = [("X-Plivo-Signature-V3", "one"), ("X-Plivo-Signature-V3", "two")]
    assert combine(lines, LIST_HEADERS | {"x-plivo-signature-v3"}) == {"x-plivo-signature-v3": "one, two"}


@pytest.mark.parametrize(
    ("value", "members"), [("", []), ("a", ["a"]), ("a,b", ["a", "b"]), (" ,a ,, b\t,", ["a", "b"])]
)
def test_empty_members_count_for_nothing(value: str, members: list[str]) -> None:
    assert list_members(value) == members


@pytest.mark.parametrize(
    ("connection", "upgrade", "asks"),
    [
        ("Upgrade", "websocket", True),
        ("keep-alive, upgrade", "h2c, WebSocket", True),
        ("keep-alive", "websocket", False),
        ("Upgrade", "h2c", False),
        ("", "", False),
    ],
)
def test_what_asks_for_a_websocket(connection: str, upgrade: str, asks: bool) -> None:
    assert asks_for_websocket({"connection": connection, "upgrade": upgrade}) is asks
