"""What a caller heard, frame by frame: nothing, or the tone of one bot; and from that gaps and changes of bots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from gateway.simulator import CallReport
from gateway.simulator.stream import StreamLog
from tests.kit.bots.tones import LOWEST, STEP, TONES

QUIET = 1000
"""Peak below which a frame is silence, or hold audio's."""
FRAME = 0.02


@dataclass(frozen=True, slots=True)
class Span:
    """Loud frames without a gap between them, of one bot. start, end: the simulator's clock. tone: `pid % TONES`."""

    start: float
    end: float
    tone: int


def spans(report: CallReport) -> list[Span]:
    """All that was heard of bots in one call, in order of time."""
    frames = sorted(frame for log in report.opened for frame in _frames(log))
    joined: list[Span] = []
    for start, tone in frames:
        last = joined[-1] if joined else None
        if last is not None and last.tone == tone and start - last.end < FRAME:
            joined[-1] = Span(last.start, max(last.end, start + FRAME), tone)
        else:
            joined.append(Span(start, start + FRAME, tone))
    return joined


def bots_heard(report: CallReport) -> list[int]:
    """The tones in the order in which they were heard. A tone that comes back after another is there twice.

    A single frame between two bots may be half of each, and is nobody's.
    """
    order: list[int] = []
    for span in spans(report):
        if span.end - span.start < 2.5 * FRAME:
            continue
        if not order or order[-1] != span.tone:
            order.append(span.tone)
    return order


def tones(pids: Iterable[int]) -> list[int]:
    """What `bots_heard` gives for these, one after the other."""
    return [tone for tone, _ in groupby(pid % TONES for pid in pids)]


def in_order(heard: Iterable[int], pids: Iterable[int]) -> bool:
    """Whoever was heard was heard in the order in which they took the call, and nobody came back."""
    expected = iter(tones(pids))
    return all(tone in expected for tone in heard)


def longest_gap(report: CallReport, *, until: float | None = None) -> float:
    """Seconds of the longest silence between the first word of a bot and the call's end."""
    heard = spans(report)
    if not heard:
        return float("inf")
    end = until if until is not None else max(log.decided or log.ended for log in report.opened)
    edges = [*heard, Span(end, end, 0)]
    gaps = [after.start - before.end for before, after in pairwise(edges)]
    return max(0.0, *gaps)


def _frames(log: StreamLog) -> list[tuple[float, int]]:
    encoding = log.wire.outbound
    found = []
    for heard in log.playout.heard:
        pcm = encoding.decode(heard.payload)
        size = round(encoding.rate * FRAME)
        for at in range(0, len(pcm) - size + 1, size):
            tone = _tone(pcm[at : at + size].astype(np.float64), encoding.rate)
            if tone is not None:
                found.append((heard.start + at / encoding.rate, tone))
    return found


def _tone(frame: np.ndarray, rate: int) -> int | None:
    """Which bot's, by the peak of a windowed spectrum; None for silence."""
    if np.abs(frame).max() < QUIET:
        return None
    size = 8 * len(frame)
    spectrum = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), size))
    peak = int(spectrum[1:-1].argmax()) + 1
    left, middle, right = np.log(spectrum[peak - 1 : peak + 2] + 1e-9)
    hertz = (peak + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / size
    return round((hertz - LOWEST) / STEP) % TONES
