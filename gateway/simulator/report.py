"""What became of a simulated call: times, audio, the gateway's faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from gateway.audio.files import convert
from gateway.simulator.echo import Alignment, align
from gateway.simulator.http import Exchange
from gateway.simulator.plan import Pcm
from gateway.simulator.stream import StreamLog


@dataclass
class CallReport:
    """One call, from the carrier's side.

    outcome         "completed", "rejected", "busy", or "failed: …" with the carrier's error number where it has one
    webhook_ms      from posting the voice webhook to its whole answer
    answer          the first answer's text, as it came
    verbs           followed, in order, a word or two each
    stream_urls     as the answers gave them
    first_audio_ms  from the open WebSocket to the gateway's first media; None: there was none
    end_ms          from the decision to hang up to the end: caller's, until the gateway's close frame; gateway's, from
                    its close to the end of the call's instructions
    violations      what the gateway did that the carrier forbids, a sentence each
    notes           what else happened
    replayed        what a used stream URL was answered: "refused 403", "closed 1008", "accepted"; "" if not tried
    streams         one for each media stream, with every sent and heard payload and its time
    """

    carrier: str
    outcome: str = "completed"
    webhook_ms: float = 0.0
    answer: str = ""
    verbs: list[str] = field(default_factory=list)
    stream_urls: list[str] = field(default_factory=list)
    ended_by: Literal["caller", "gateway", "carrier"] = "caller"
    end_ms: float | None = None
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)
    dtmf: list[str] = field(default_factory=list)
    http: list[Exchange] = field(default_factory=list)
    replayed: str = ""
    streams: list[StreamLog] = field(default_factory=list)

    @property
    def opened(self) -> list[StreamLog]:
        """The streams whose handshake succeeded."""
        return [log for log in self.streams if log.opened]

    @property
    def first_audio_ms(self) -> float | None:
        first = self.opened[0] if self.opened else None
        if first is None or first.first_audio is None:
            return None
        return (first.first_audio - first.opened) * 1000

    @property
    def frames_sent(self) -> int:
        """In units of 20 ms, whatever the carrier's message holds."""
        return sum(len(log.sent) * log.wire.frame_ms // 20 for log in self.streams)

    @property
    def frames_received(self) -> int:
        return sum(log.received_bytes * 50 // log.wire.outbound.bytes_per_second for log in self.streams)

    @property
    def marks(self) -> list[str]:
        """Those that were played."""
        return [name for log in self.streams for name in log.marks]

    @cached_property
    def sent_wire(self) -> bytes:
        """All that the caller said, as sent."""
        return b"".join(frame.payload for log in self.streams for frame in log.sent)

    @cached_property
    def heard_wire(self) -> bytes:
        """All that the caller heard, as it came, without the gaps."""
        return b"".join(heard.payload for log in self.streams for heard in log.playout.heard)

    @cached_property
    def heard_rate(self) -> int:
        return self.opened[0].wire.outbound.rate if self.opened else 8000

    @cached_property
    def heard_pcm(self) -> Pcm:
        """Return what the caller heard from the first stream's opening on.

        int16 at `heard_rate`, gaps as silence.
        """
        pieces: list[tuple[int, Pcm]] = []
        rate = self.heard_rate
        end = 0
        for log in self.opened:
            encoding = log.wire.outbound
            for heard in log.playout.heard:
                pcm = convert(encoding.decode(heard.payload), encoding.rate, rate)
                # Back to back in time is back to back in samples: rounding must open no gap of one.
                at = round((heard.start - self.opened[0].opened) * rate)
                at = end if abs(at - end) <= 2 else at
                pieces.append((at, pcm))
                end = at + len(pcm)
        whole = np.zeros(max((at + len(pcm) for at, pcm in pieces), default=0), np.int16)
        for at, pcm in pieces:
            whole[at : at + len(pcm)] = pcm
        return whole

    @cached_property
    def alignment(self) -> Alignment:
        """Where the echo is.

        Computed on first use, for 10 to 300 ms: not while other calls are running.
        """
        if not self.opened:
            return align(np.zeros(0, np.int16), np.zeros(0, np.int16), 8000)
        rate = self.opened[0].wire.inbound.rate
        sent = [self._joined(log, heard=False, rate=rate) for log in self.opened]
        heard = [self._joined(log, heard=True, rate=rate) for log in self.opened]
        return align(np.concatenate(sent), np.concatenate(heard), rate)

    @staticmethod
    def _joined(log: StreamLog, *, heard: bool, rate: int) -> Pcm:
        if heard:
            encoding = log.wire.outbound
            wire = b"".join(piece.payload for piece in log.playout.heard)
        else:
            encoding = log.wire.inbound
            wire = b"".join(frame.payload for frame in log.sent)
        return convert(encoding.decode(wire), encoding.rate, rate)

    @property
    def lost_frames(self) -> int:
        """20 ms frames of speech whose echo was not heard.

        All of them where the bot is no echo.
        """
        return self.alignment.lost

    def echo_delays_ms(self) -> list[float]:
        """Return for each media message the time from its first sample to its echo.

        Empty where there is no echo.

        What was heard before it was said is none either, however alike: the bot and the caller say the same words.
        """
        alignment = self.alignment
        if not alignment.found:
            return []
        rate = self.opened[0].wire.inbound.rate
        offsets, starts, total = self._timeline(rate)
        delays: list[float] = []
        sample = 0.0
        for log in self.opened:
            for frame in log.sent:
                place = sample + alignment.lag_at(int(sample))
                if 0 <= place < total:
                    index = int(np.searchsorted(offsets, place, "right")) - 1
                    delays.append((starts[index] + (place - offsets[index]) / rate - frame.at) * 1000)
                sample += len(frame.payload) * rate / log.wire.inbound.bytes_per_second
        return delays if np.median(delays or [0.0]) >= 0 else []

    def _timeline(self, rate: int) -> tuple[list[float], list[float], float]:
        """Return each heard payload's first sample and time, and the sum of all samples.

        The sample is counted among all that were heard, at `rate`.
        """
        offsets: list[float] = []
        starts: list[float] = []
        total = 0.0
        for log in self.opened:
            for heard in log.playout.heard:
                offsets.append(total)
                starts.append(heard.start)
                total += len(heard.payload) * rate / log.wire.outbound.bytes_per_second
        return offsets, starts, total
