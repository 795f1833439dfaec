"""Read header lines as RFC 9110 does: a list may come in several lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable

LIST_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "expect",
        "forwarded",
        "pragma",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
    }
)
"""Names, in lower case, of headers that are lists by their definition, beside those that a carrier declares."""


def combine(lines: Iterable[tuple[str, str]], lists: Collection[str] = LIST_HEADERS) -> dict[str, str]:
    """Return one value for each name, the names in lower case.

    lists: names whose lines are joined by commas (RFC 9110, section 5.3). Of any other name the first line counts: a
    signature that a proxy has doubled is still one signature.
    """
    headers: dict[str, str] = {}
    for name, value in lines:
        name = name.lower()
        if name not in headers:
            headers[name] = value
        elif name in lists:
            headers[name] = f"{headers[name]}, {value}"
    return headers


def list_members(value: str) -> list[str]:
    """Split a header that is a list.

    Empty members count for nothing (RFC 9110, section 5.6.1).
    """
    return [member for part in value.split(",") if (member := part.strip())]


def asks_for_websocket(headers: dict[str, str]) -> bool:
    """Whether combined headers ask for a WebSocket.

    Both are lists: `Connection: keep-alive, Upgrade` is usual, and `Upgrade: websocket, h2c` leaves us the choice (RFC
    9110, sections 7.6.1 and 7.8).
    """

    def has(name: str, member: str) -> bool:
        return member in (one.lower() for one in list_members(headers.get(name, "")))

    return has("connection", "upgrade") and has("upgrade", "websocket")
