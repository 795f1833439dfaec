"""What a caller heard of a bot: its echo, and the file that it plays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.audio.files import convert
from gateway.simulator import CALLER_RATE, CallReport
from gateway.simulator.echo import align


@dataclass(frozen=True, slots=True)
class Echo:
    """Of the caller's first words. share: of their windows, those found again. lost: milliseconds. delay: seconds."""

    share: float
    lost: float
    delay: float


def echo_of(report: CallReport, said: np.ndarray, until: float) -> Echo:
    """Find the first words again, in what was heard until so many seconds had passed."""
    heard = convert(report.heard_pcm, report.heard_rate, CALLER_RATE)[: round(until * CALLER_RATE)]
    found = align(said, heard, CALLER_RATE)
    lags = found.lags[np.isfinite(found.lags)]
    return Echo(found.share, found.lost * 20.0, float(np.median(lags)) / CALLER_RATE if len(lags) else float("nan"))


def seconds_of(report: CallReport, played: np.ndarray, after: float) -> float:
    """How much of a file was heard without a gap, later than `after` seconds: by windows that correlate with it."""
    heard = convert(report.heard_pcm, report.heard_rate, CALLER_RATE)[round(after * CALLER_RATE) :]
    found = align(played, heard, CALLER_RATE)
    return found.share * len(played) / CALLER_RATE
