"""Plays a recorded call again, message by message, with its timing.

The webhook's fields and the stream's messages are the recording's, but for what identifies the call: its ids are made
again, its account is the credentials' (and everything is signed with those). What the gateway answers is obeyed as it
comes now; marks that it sends are returned as they are played now, so the recorded ones are left out.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from gateway.errors import RecordingError
from gateway.recording import Entry, Recording
from gateway.simulator import clock
from gateway.simulator.account import Account
from gateway.simulator.call import Call
from gateway.simulator.carrier import Request
from gateway.simulator.carriers import carrier_of, flow_of, load_signer
from gateway.simulator.http import Answer, Http
from gateway.simulator.plan import CallPlan
from gateway.simulator.recorder import Recorder
from gateway.simulator.report import CallReport
from gateway.simulator.stream import Driver, MediaStream

ANSWERS = frozenset({"mark", "playedStream", "clearedAudio", "error"})
"""Events that answer the gateway."""


async def replay(
    recording: Recording,
    base_url: str,
    *,
    credentials: Mapping[str, Account] | None = None,
    public_url: str | None = None,
    query: Mapping[str, str] | None = None,
    linger: float = 2.0,
    recorder: Recorder | None = None,
) -> CallReport:
    """Place the recorded call at the gateway of `base_url`; arguments as in CallPlan.

    query: added to the recorded voice URL's. Raises RecordingError for a recording without a webhook or stream,
    UserError for a carrier that is not simulated.
    """
    request, scenes = script_of(recording)
    plan = CallPlan(
        carrier=recording.carrier,
        base_url=base_url,
        public_url=public_url,
        audio=np.zeros(0, np.int16),
        credentials=credentials,
        from_number=recording.call.get("from", "+15550100001"),
        to_number=recording.call.get("to", "+15550100000"),
        query=dict(query or {}),
        linger=linger,
        seconds=scenes[0].seconds,
        encoding=recording.encoding if recording.encoding != "L16" else None,
    )
    load_signer(plan)
    carrier = carrier_of(plan)
    if recorder:
        recorder.call(carrier.name, carrier.facts(), plan.public)
    async with Http(plan, carrier, recorder) as http:
        call = ReplayedCall(plan, carrier, http, recorder)
        call.script(recording, request, scenes)
        return await call.run(flow_of(plan))


def script_of(recording: Recording) -> tuple[Entry, list[Scene]]:
    """Return the recorded webhook and streams.

    Raises RecordingError for a recording without the one or the other.
    """
    request = next((entry for entry in recording.entries if entry.kind == "request"), None)
    scenes = _scenes(recording.entries)
    if request is None or not scenes:
        raise RecordingError("nothing to replay: no webhook, or no stream, was recorded")
    return request, scenes


@dataclass(frozen=True, slots=True)
class Scene:
    """One recorded stream: what the carrier said on it, and when after its opening.

    Times are in seconds.
    """

    lines: Sequence[tuple[float, Entry]]
    seconds: float
    closed_by_carrier: bool


def _scenes(entries: Sequence[Entry]) -> list[Scene]:
    scenes: list[Scene] = []
    opened: float | None = None
    lines: list[tuple[float, Entry]] = []
    for entry in entries:
        if entry.kind == "open":
            opened, lines = entry.ms, []
        elif opened is None:
            continue
        elif entry.kind == "close":
            scenes.append(Scene(lines, (entry.ms - opened) / 1000, entry.party == "carrier"))
            opened = None
        elif entry.kind == "message" and entry.party == "carrier":
            lines.append(((entry.ms - opened) / 1000, entry))
    if opened is not None:
        scenes.append(Scene(lines, lines[-1][0] if lines else 0.0, closed_by_carrier=False))
    return scenes


class ReplayedCall(Call):
    """A call whose first webhook and whose streams come from a recording."""

    def script(self, recording: Recording, request: Entry, scenes: Sequence[Scene]) -> None:
        facts = {**self.carrier.facts(), "public_url": self.plan.public}
        self._words = {
            old: facts[key] for key, old in recording.call.items() if old and facts.get(key) not in (None, "", old)
        }
        self._recording = recording
        self._request = request
        self._scenes = list(scenes)

    async def fetch(self, request: Request) -> Answer:
        if not self.http.log:
            recorded = self._request
            url = _swap(recorded.url, self._words)
            if self.plan.query:
                added = Request("GET", url, list(self.plan.query.items()))
                url = added.full_url
            fields = [(name, _swap(value, self._words)) for name, value in recorded.form]
            request = replace(request, method=recorded.method or request.method, url=url, fields=fields)
        return await super().fetch(request)

    def driver(self) -> Driver:
        scene = self._scenes.pop(0) if self._scenes else Scene((), 0.0, closed_by_carrier=False)
        return Script(self, scene, self._recording, self._words)


class Script:
    """The driver that says what was said."""

    def __init__(self, call: Call, scene: Scene, recording: Recording, words: Mapping[str, str]) -> None:
        self._call = call
        self._scene = scene
        self._recording = recording
        self._words = words
        self._lines: list[tuple[float, str | bytes, bytes | None]] = []
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: MediaStream) -> None:
        self._stream = stream
        recorded = (self._recording.encoding, self._recording.rate)
        asked = (stream.wire.inbound.name, stream.wire.inbound.rate)
        if recorded != asked:
            self._call.report.notes.append(f"the recording is {recorded}, the gateway asked for {asked}")
        words = dict(self._words)
        if old := self._recording.call.get("stream_id"):
            words[old] = stream.wire.stream_id
        for at, entry in self._scene.lines:
            line = _line(entry, words)
            if line is not None:
                self._lines.append((at, *line))
        self._opened = clock.now()
        self._call.talk.begin(self._opened)
        self._say()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _say(self) -> None:
        now = clock.now() - self._opened
        while self._next < len(self._lines) and self._lines[self._next][0] <= now + clock.EARLY:
            _, message, frame = self._lines[self._next]
            self._next += 1
            if frame is None and isinstance(message, bytes):
                self._stream.send_binary(message)
            else:
                self._stream.send(message, frame)
        if self._next < len(self._lines):
            self._timer = clock.call_at(self._opened + self._lines[self._next][0], self._say)
        else:
            self._timer = clock.call_at(self._opened + self._over_at(), self._end)

    def _over_at(self) -> float:
        """Return when the recording closed the stream.

        Some time after the last line where the gateway did.
        """
        seconds = self._scene.seconds
        return seconds if self._scene.closed_by_carrier else seconds + self._call.plan.linger

    def _end(self) -> None:
        if self._scene.closed_by_carrier:
            self._stream.close("caller")
        else:
            self._stream.hang_up()


def _line(entry: Entry, words: Mapping[str, str]) -> tuple[str | bytes, bytes | None] | None:
    """Return the message to send, and its audio; None for what answered the gateway."""
    if entry.data is not None:
        return entry.data, None
    text = _swap(entry.text, words)
    try:
        message = orjson.loads(text)
    except ValueError:
        return text, None
    if not isinstance(message, dict):
        return text, None
    if message.get("event") in ANSWERS:
        return None
    media = message.get("media")
    if message.get("event") != "media" or not isinstance(media, dict):
        return text, None
    try:
        return text.encode(), base64.b64decode(str(media.get("payload", "")), validate=True)
    except ValueError:
        return text, None


def _swap(text: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text
