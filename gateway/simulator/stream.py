"""One media stream of a simulated call: its socket, audio, marks and end.

Who talks is a driver's business: `speaker.Speaker` paces a voice, `replay.Script` a recording. Both call `send`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.simulator import clock
from gateway.simulator.carrier import Clear, Dtmf, Fatal, Mark, Play, Reply, Wire
from gateway.simulator.playout import Playout
from gateway.simulator.recorder import Recorder
from gateway.simulator.socket import ClientSocket, Refused

EndedBy = Literal["caller", "gateway", "carrier", "refused"]

CLOSE_WAIT = 3.0  # for the gateway's close frame, after ours


@dataclass(slots=True)
class SentFrame:
    """A media message as sent: when (`clock.now`), and its audio."""

    at: float
    payload: bytes


@dataclass(slots=True)
class StreamLog:
    """What one stream leaves for the report.

    Times are the simulator's clock, in seconds.
    """

    wire: Wire
    playout: Playout
    url: str
    opened: float = 0.0
    first_audio: float | None = None
    media_messages: int = 0
    received_bytes: int = 0
    sent: list[SentFrame] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    dtmf: list[str] = field(default_factory=list)
    cleared: int = 0
    ended: float = 0.0
    ended_by: EndedBy = "carrier"
    close_code: int = 0
    close_reason: str = ""
    """As the gateway's close frame gave it: why its session ended, in a word."""
    error: str = ""
    decided: float | None = None
    """When the caller hung up."""


class Driver(Protocol):
    """Who talks on a stream."""

    def start(self, stream: MediaStream) -> None:
        """Begin to talk: the stream is open, and nothing has been said on it."""

    def stop(self) -> None:
        """Cancel all timers, as the stream is over."""


class MediaStream:
    """A stream from its handshake to its end; `run` lives as long."""

    def __init__(self, wire: Wire, url: str, recorder: Recorder | None) -> None:
        encoding = wire.outbound
        self.wire = wire
        self.playout = Playout(encoding.bytes_per_second, encoding.sample_bytes)
        self.log = StreamLog(wire, self.playout, url)
        self.on_open: Callable[[], None] | None = None
        self._recorder = recorder
        self._socket: ClientSocket | None = None
        self._marks: asyncio.TimerHandle | None = None
        self._ended_by: EndedBy | None = None
        self._sent_code = 0

    async def run(
        self, driver: Driver, dial_url: str, headers: dict[str, str], tls: ssl.SSLContext | None
    ) -> StreamLog:
        """Open the socket, let the driver talk, return when the stream is over, however.

        Never raises Refused.
        """
        log = self.log
        try:
            self._socket = await ClientSocket.connect(dial_url, headers, self._received, tls=tls)
        except Refused as refused:
            log.ended, log.ended_by = clock.now(), "refused"
            log.error, log.close_code = str(refused), refused.status
            return log
        log.opened = clock.now()
        if self._recorder:
            self._recorder.opened(log.url)
        if self.on_open:
            self.on_open()
        try:
            driver.start(self)
            log.close_code, log.close_reason = await self._socket.closed
        finally:
            driver.stop()
            if self._marks is not None:
                self._marks.cancel()
            if self._ended_by is None and not self._socket.closed.done():  # cancelled
                self._socket.drop()
        self._note_end()
        return log

    def _note_end(self) -> None:
        """Write down how the stream ended."""
        log = self.log
        log.ended = clock.now()
        self.playout.clear(log.ended)  # what is still unplayed is never heard
        log.ended_by = self._ended_by or "gateway"
        if self._recorder:
            by_carrier = self._ended_by is not None
            self._recorder.closed("carrier" if by_carrier else "gateway", self._sent_code or log.close_code)
        if log.ended_by == "gateway" and log.close_code not in (1000, 1001, 1005):
            log.error = log.error or f"closed {log.close_code} {log.close_reason}".strip()

    # What the carrier does

    def send(self, message: str | bytes, frame: bytes | None = None) -> None:
        """Send one text message. frame: its audio, if it is media of the caller's."""
        socket = self._socket
        if socket is None or not socket.is_open:
            return
        data = message.encode() if isinstance(message, str) else message
        socket.send_text(data)
        now = clock.now()
        if frame is not None:
            self.said(now, frame)
        if self._recorder:
            self._recorder.message("carrier", data.decode("utf-8", "replace"))

    def said(self, now: float, frame: bytes) -> None:
        """Note audio of the caller's, as sent."""
        self.log.sent.append(SentFrame(now, frame))

    def send_binary(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.send_binary(data)
            if self._recorder:
                self._recorder.message("carrier", data)

    def hang_up(self, by: EndedBy = "caller") -> None:
        """Say `stop` and close, as the carrier does at the call's end."""
        if self._socket is None or self._ended_by is not None:
            return
        self.log.decided = clock.now()
        if stop := self.wire.stop("callended"):
            self.send(stop)
        self.close(by)

    def close(self, by: EndedBy = "carrier", code: int = 1000) -> None:
        """Close without a `stop`."""
        if self._socket is None or self._ended_by is not None:
            return
        if by == "caller" and self.log.decided is None:
            self.log.decided = clock.now()
        self._ended_by, self._sent_code = by, code
        self._socket.close(code)
        clock.call_at(clock.now() + CLOSE_WAIT, self._socket.drop)

    def drop(self, by: EndedBy = "carrier") -> None:
        """Reset the connection."""
        if self._socket is not None and self._ended_by is None:
            self._ended_by = by
            self._socket.drop()

    def freeze(self) -> None:
        if self._socket is not None:
            self._socket.freeze()

    def pause_reading(self, paused: bool) -> None:
        if self._socket is not None:
            self._socket.pause(paused)

    # What the gateway does

    def _received(self, data: str | bytes) -> None:
        now = clock.now()
        if self._recorder:
            self._recorder.message("gateway", data)
        match self.wire.read(data):
            case Play(payload):
                self._play(now, payload)
            case Clear():
                self.log.cleared += 1
                self._tell_marks(now)
                for message in self.wire.cleared(self.playout.clear(now)):
                    self.send(message)
            case Mark(name):
                self.playout.mark(now, name)
                self._tell_marks(now)
            case Dtmf(digits):
                self.log.dtmf.append(digits)
            case Reply(message):
                self.send(message)
            case Fatal(error):
                self.log.error = error
                self.close("carrier", 1002)

    def _play(self, now: float, payload: bytes) -> None:
        log = self.log
        if not self.wire.spec.bidirectional:
            if not log.media_messages:
                self.wire.violations.append("audio sent on a stream that only receives")
            log.media_messages += 1
            return
        if log.first_audio is None:
            log.first_audio = now
        log.media_messages += 1
        log.received_bytes += len(payload)
        self.playout.play(now, payload)

    def _tell_marks(self, now: float) -> None:
        """Return the marks that have been played, and come back for the next one."""
        for name in self.playout.due(now):
            self.log.marks.append(name)
            self.send(self.wire.mark(name))
        if self._marks is not None:
            self._marks.cancel()
            self._marks = None
        due = self.playout.next_due
        if due is not None:
            # A timer may fire a little early; then it is set once more.
            self._marks = clock.call_at(due + 0.001, lambda: self._tell_marks(clock.now()))
