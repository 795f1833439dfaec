"""Recordings of the wire: what a call's carrier and the gateway said to each other, as a fixture for `gateway replay`.

For bug reports, not for business: it is kept in memory until the call is over, and bounded. Numbers, accounts, keys,
tokens and digits are masked when it is written (`gateway.recording`); the audio is there as it was, and so the file
goes when its caller is to be forgotten.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

import structlog

from gateway.call_recording.folder import name_of, reason
from gateway.carriers.base import HttpAnswer, HttpRequest
from gateway.errors import RecordingError
from gateway.pool.facts import FactEvent, Facts
from gateway.recording import Entry, Party, Recording, files_of, mask
from gateway.sockets import Handler, Socket
from serializers.base import Start

log = structlog.get_logger(__name__)

MAX_LINES = 60_000
"""Of one call: ten minutes of both directions, about 20 MB in memory."""
MAX_CALLS = 10
"""At once, in this process. A further call takes the place of one without a stream, or is not recorded."""
MAX_FORGOTTEN = 100_000
"""Sessions to remember as forgotten, about 10 MB. Of more the oldest go: their calls are over."""
ENDING = ".jsonl"
_ENCODINGS = {"mulaw": "PCMU", "alaw": "PCMA", "l16": "L16"}


@dataclass(slots=True)
class WireRecord:
    """Collect what is said on one call's wire. path: of the fixture."""

    path: Path
    recording: Recording
    clock: Callable[[], float] = time.monotonic
    began: float = 0.0
    forgotten: bool = False
    """Its caller is to be forgotten: nothing more is kept, and nothing written."""

    def add(self, entry: Entry) -> None:
        """Add what happens now."""
        if self.forgotten:
            return
        entries = self.recording.entries
        if len(entries) >= MAX_LINES:
            self.recording.truncated = True
            return
        now = self.clock()
        self.began = self.began or now
        entries.append(replace(entry, ms=(now - self.began) * 1000))

    def message(self, party: Party, data: str | bytes, text: bool) -> None:
        """A WebSocket message."""
        if isinstance(data, bytes) and text:
            data = data.decode(errors="replace")
        if isinstance(data, str):
            self.add(Entry(0.0, "message", party, text=data))
        else:
            self.add(Entry(0.0, "message", party, data=data))

    def closed(self, party: Party, code: int) -> None:
        """The stream is closed. The first word counts."""
        if self.recording.entries and self.recording.entries[-1].kind != "close":
            self.add(Entry(0.0, "close", party, code=code))


class WireRecords:
    """Capture the wire of a node's calls. enabled: a service of it records; without one nothing is looked at."""

    def __init__(self, *, enabled: bool, public_url: str, public_ws: str) -> None:
        self._enabled = enabled
        self._public_url = public_url
        self._public_ws = public_ws
        self._records: dict[str, WireRecord] = {}
        self._forgotten: dict[str, None] = {}
        self._lock = threading.Lock()

    def wrap(self, socket: Socket) -> Socket:
        """Return a carrier's socket that can be recorded, once it is known whose it is."""
        return RecordedSocket(socket) if self._enabled else socket

    def webhook(self, session: str, known: FactEvent, folder: str, request: HttpRequest, answer: HttpAnswer) -> None:
        """Keep the webhook by which a call came, and its answer. folder: the service's `record`."""
        record = self._record(session, known, folder)
        if record is None:
            return
        url = self._public_url + request.path + (f"?{request.query}" if request.query else "")
        body = request.body.decode(errors="replace")
        is_form = "x-www-form-urlencoded" in request.headers.get("content-type", "")
        form = tuple(parse_qsl(body, keep_blank_values=True)) if is_form else ()
        text = "" if is_form else body
        record.add(Entry(0.0, "request", "carrier", text, method=request.method, url=url, form=form))
        said = answer.body.decode(errors="replace")
        record.add(Entry(0.0, "response", "gateway", said, status=answer.status))

    def stream(self, facts: Facts, folder: str, socket: Socket, start: Start, messages: Iterable[bytes]) -> None:
        """Record this stream from now on. messages: those that have come on it."""
        record = self._record(facts.session, facts, folder)
        if record is None or not isinstance(socket, RecordedSocket):
            return
        recording = record.recording
        if "stream_id" not in recording.call:
            recording.call |= {"stream_id": start.stream_id, "account_id": start.account_id or facts.account}
            recording.encoding = _ENCODINGS.get(start.inbound.encoding, "PCMU")
            recording.rate = start.inbound.sample_rate
        record.add(Entry(0.0, "open", "carrier", url=f"{self._public_ws}/ws/{facts.carrier}/{'x' * 20}"))
        for message in messages:
            record.message("carrier", message, True)
        socket.record = record

    async def write(self, session: str) -> None:
        """Write the call's recording, if there is one."""
        record = self._records.pop(session, None)
        if record is None or session in self._forgotten:
            return
        try:
            await asyncio.to_thread(_write, record)
            if session in self._forgotten:  # meanwhile
                await asyncio.to_thread(remove_wires, [str(record.path.parent)], [session])
        except (OSError, RecordingError) as error:
            log.error("the wire was not recorded", session=session, error=reason(error))

    def forget(self, sessions: Collection[str]) -> None:
        """Write nothing of these sessions, now or later. From whichever thread. Files stay: see `remove_wires`."""
        with self._lock:
            self._forgotten.update(dict.fromkeys(sessions))
            while len(self._forgotten) > MAX_FORGOTTEN:
                del self._forgotten[next(iter(self._forgotten))]
        for session in sessions:
            if (record := self._records.get(session)) is not None:
                record.forgotten = True

    def _record(self, session: str, facts: Facts | FactEvent, folder: str) -> WireRecord | None:
        if not folder or session in self._forgotten:
            return None
        record = self._records.get(session)
        if record is not None:
            return record
        if len(self._records) >= MAX_CALLS:
            # A webhook whose stream has not come, and may never come, makes room; a call that runs does not.
            waiting = (name for name, one in self._records.items() if not one.recording.call.get("stream_id"))
            oldest = next(waiting, None)
            if oldest is None:
                return None
            del self._records[oldest]
        path = Path(folder) / f"{name_of(session)}{ENDING}"
        call = {
            "call_id": facts.call_id,
            "from": facts.raw_from or facts.from_number,
            "to": facts.raw_to or facts.to_number,
            "public_url": self._public_url,
        }
        record = self._records[session] = WireRecord(path, Recording(facts.carrier, call=call))
        return record


def _log_not_removed(path: Path, error: OSError) -> None:
    log.warning("a wire recording was not removed", file=path.name, error=error.strerror)


def remove_wires(
    folders: Iterable[str], sessions: Iterable[str], on_error: Callable[[Path, OSError], None] = _log_not_removed
) -> None:
    """Remove the files of these sessions. folders: the services' `record`."""
    names = {name_of(session) + ENDING for session in sessions}
    for folder in sorted({*folders} - {""}):
        for path in (file for name in sorted(names) for file in files_of(Path(folder) / name)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                on_error(path, error)


def _write(record: WireRecord) -> None:
    record.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mask(record.recording).write(record.path)


class RecordedSocket:
    """A carrier's socket, whose messages both ways are kept once `record` is set."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.record: WireRecord | None = None
        self.ping, self.abort, self.hold_reading = socket.ping, socket.abort, socket.hold_reading

    @property
    def unsent(self) -> int:
        return self._socket.unsent

    @property
    def last_received(self) -> float:
        return self._socket.last_received

    @property
    def last_pong(self) -> float:
        return self._socket.last_pong

    def send(self, data: str | bytes) -> None:
        if self.record is not None:
            self.record.message("gateway", data, isinstance(data, str))
        self._socket.send(data)

    def set_handler(self, handler: Handler) -> None:
        self._socket.set_handler(_RecordedHandler(self, handler))

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.record is not None:
            self.record.closed("gateway", code)
        self._socket.close(code, reason)


class _RecordedHandler(Handler):
    def __init__(self, socket: RecordedSocket, handler: Handler) -> None:
        self._socket, self._handler = socket, handler

    def opened(self, socket: Socket) -> None:
        self._handler.opened(socket)

    def received(self, data: bytes, text: bool) -> None:
        if self._socket.record is not None:
            self._socket.record.message("carrier", data, text)
        self._handler.received(data, text)

    def closed(self, code: int, reason: str) -> None:
        if self._socket.record is not None:
            self._socket.record.closed("carrier", code)
        self._handler.closed(code, reason)
