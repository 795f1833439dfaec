"""Writes down what is on the wire of a simulated call, and masks it when asked for the recording."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.recording import MAX_MESSAGES, Entry, Party, Recording, mask_number, mask_secrets
from gateway.simulator import clock

# Digits that a caller pressed, or that are sent for him, can be a PIN.
_DIGITS = re.compile(r'("(?:digit|dtmf)"\s*:\s*"|\bdigits="|<DTMF[^>]*>)([^"<]+)')
_DIGIT_FIELDS = ("Digits", "digits")


class Recorder:
    """Give it to `place_call`, then ask for the `recording()`. One call's worth; bounded."""

    def __init__(self, limit: int = MAX_MESSAGES) -> None:
        self._recording = Recording("")
        self._limit = limit
        self._began: float | None = None

    def call(self, carrier: str, facts: Mapping[str, str], public_url: str) -> None:
        """What is being recorded; facts: the strings that identify the call."""
        self._recording.carrier = carrier
        self._recording.call = {**facts, "public_url": public_url}

    def stream(self, stream_id: str, encoding: str, rate: int) -> None:
        """The stream that is about to be opened; the first one gives the recording its encoding."""
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
        """A copy of what was recorded: numbers, accounts, tokens and pressed digits masked."""
        raw = self._recording
        words = {
            value: masked for key, value in raw.call.items() if value and (masked := _mask_fact(key, value)) != value
        }
        return replace(
            raw,
            what=what,
            call={key: words.get(value, value) for key, value in raw.call.items()},
            entries=[_mask_entry(entry, words) for entry in raw.entries],
        )


def _mask_fact(key: str, value: str) -> str:
    if key in ("from", "to"):
        return mask_number(value)
    if key in ("account_id", "connection_id"):
        return value[:2] + re.sub(r"[0-9A-Za-z]", "0", value[2:])
    return value


def _mask_entry(entry: Entry, words: Mapping[str, str]) -> Entry:
    if entry.kind == "message" and '"payload"' in entry.text:
        return entry
    form = tuple(
        (name, "0" * len(value) if name in _DIGIT_FIELDS else _swap(value, words)) for name, value in entry.form
    )
    text = _DIGITS.sub(lambda match: match[1] + "0" * len(match[2]), _swap(entry.text, words))
    return replace(entry, form=form, text=mask_secrets(text), url=mask_secrets(_swap(entry.url, words)))


def _swap(text: str, words: Mapping[str, str]) -> str:
    for word, masked in words.items():
        text = text.replace(word, masked)
    return text
