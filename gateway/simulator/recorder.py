"""Writes down what is on the wire of a call, and masks it in the recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.recording import MAX_MESSAGES, Entry, Party, Recording, mask
from gateway.simulator import clock


class Recorder:
    """Give it to `place_call`, then ask for the `recording()`.

    One call's worth; bounded.
    """

    def __init__(self, limit: int = MAX_MESSAGES) -> None:
        self._recording = Recording("")
        self._limit = limit
        self._began: float | None = None

    def call(self, carrier: str, facts: Mapping[str, str], public_url: str) -> None:
        """Note what is recorded. facts: the strings that identify the call."""
        self._recording.carrier = carrier
        self._recording.call = {**facts, "public_url": public_url}

    def stream(self, stream_id: str, encoding: str, rate: int) -> None:
        """Note the stream that is about to be opened; the first one's encoding is kept."""
        if "stream_id" not in self._recording.call:
            self._recording.call["stream_id"] = stream_id
            self._recording.encoding, self._recording.rate = encoding, rate

    def request(self, method: str, url: str, form: tuple[tuple[str, str], ...]) -> None:
        self._add(lambda ms: Entry(ms, "request", "carrier", method=method, url=url, form=form))

    def response(self, status: int, body: str) -> None:
        self._add(lambda ms: Entry(ms, "response", "gateway", status=status, text=body))

    def opened(self, url: str) -> None:
        self._add(lambda ms: Entry(ms, "open", "carrier", url=url))

    def message(self, party: Party, data: str | bytes) -> None:
        if isinstance(data, str):
            self._add(lambda ms: Entry(ms, "message", party, text=data))
        else:
            self._add(lambda ms: Entry(ms, "message", party, data=data))

    def closed(self, party: Party, code: int) -> None:
        self._add(lambda ms: Entry(ms, "close", party, code=code))

    def _add(self, entry: Callable[[float], Entry]) -> None:
        if len(self._recording.entries) >= self._limit:
            self._recording.truncated = True
            return
        now = clock.now()
        if self._began is None:
            self._began = now
        self._recording.entries.append(entry((now - self._began) * 1000))

    def recording(self, what: str = "") -> Recording:
        """Copy what was recorded, with numbers, accounts, tokens and digits masked."""
        return replace(mask(self._recording), what=what)
