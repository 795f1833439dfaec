"""A socket that remembers, and a session that only listens."""

from __future__ import annotations

import json

import pytest


class FakeSocket:
    """What was sent, pings, and how it was closed. Its numbers are set by the test."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.closed: int | None = None
        self.aborted = False
        self.pings = 0
        self.held = False
        self.unsent = 0
        self.last_received = 0.0
        self.last_pong = 0.0

    def send(self, data) -> None:
        self.sent.append(data)

    def ping(self) -> None:
        self.pings += 1

    def hold_reading(self, held: bool) -> None:
        self.held = held

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code

    def abort(self) -> None:
        self.aborted = True

    @property
    def texts(self) -> list[dict]:
        return [json.loads(item) for item in self.sent if isinstance(item, str)]

    @property
    def audio(self) -> bytes:
        return b"".join(item for item in self.sent if isinstance(item, bytes))

    def of(self, kind: str) -> list[dict]:
        """The JSON messages of this `type` (link) or `event` (stream)."""
        return [m for m in self.texts if kind in (m.get("type"), m.get("event"))]


class Listener:
    """All that the bridge says, as (what, value)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *value: self.heard.append((name, *value))


@pytest.fixture
def stream_socket():
    return FakeSocket()


@pytest.fixture
def link_socket():
    return FakeSocket()


@pytest.fixture
def listener():
    return Listener()
