"""Delay and loss of an echo, by cross-correlation.

Where in what was heard is what was sent?

The echo's place is its lag: sample k of what was sent is sample k + lag of what was heard (both without gaps). It is
constant while nothing is lost or inserted between; so it is followed window by window, and searched for again where it
no longer holds. Good for speech and chirps; a steady tone looks the same at many lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.simulator.plan import Pcm
from gateway.simulator.voice import FRAME_MS

Float = npt.NDArray[np.float64]

WINDOW_MS = 200
NEAR_MS = 4  # a lag within this of the last one is the same lag: fractional delays, re-encoding
FAR_MS = 3000
AUDIBLE = 200.0  # RMS; below it G.711's own noise decides
MATCH = 0.7  # correlation of a window
MATCH_ELSEWHERE = 0.85  # at another lag: neighbouring periods of a voice are alike, too
ECHOED = 0.25  # of the audible windows: what a caller says to hold audio, or to a bot that begins late, has no echo
MATCH_FRAME = 0.5  # of one frame, where 160 samples are fewer and a filter's edge shows more


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where an echo is, window by window.

    lags     for each window of what was sent, in samples; NaN where it is nowhere, or silent before any match
    window   samples in each
    lost     20 ms frames that were not heard
    share    of the audible windows, those that were found again
    """

    lags: Float
    window: int
    lost: int
    share: float = 0.0

    def lag_at(self, sample: int) -> float:
        index = min(sample // self.window, len(self.lags) - 1)
        return float(self.lags[index]) if index >= 0 else float("nan")

    @property
    def found(self) -> bool:
        """Tell whether enough windows match.

        A bot with words of its own is like its caller in one window or another, by chance.
        """
        return self.share >= ECHOED


def align(sent: Pcm, heard: Pcm, rate: int) -> Alignment:
    """Find the lag of each window of `sent` in `heard`, both int16 at `rate`."""
    window = rate * WINDOW_MS // 1000
    s = sent.astype(np.float64)
    # Silence on both sides: a window whose end was not heard is still where its beginning is.
    h = np.pad(heard.astype(np.float64), window)
    measured = _follow(s, h, window, rate) if len(heard) else np.full(-(-len(s) // window), np.nan)
    lost = _lost_frames(s, h, measured, window, rate)
    audible = sum(_rms(s[at : at + window]) >= AUDIBLE for at in range(0, len(s), window))
    share = float(np.isfinite(measured).sum()) / audible if audible else 0.0
    return Alignment(_filled(measured) - window, window, lost, share)


def _follow(s: Float, h: Float, window: int, rate: int) -> Float:
    """Return the lag of each audible window, NaN for the others."""
    lags = np.full(-(-len(s) // window), np.nan)
    lag = _global_lag(s, h)
    for index in range(len(lags)):
        piece = s[index * window : (index + 1) * window]
        if _rms(piece) < AUDIBLE:
            continue
        at = index * window
        for reach, enough in ((NEAR_MS, MATCH), (FAR_MS, MATCH_ELSEWHERE)):
            found, match = _best_lag(piece, h, at, lag, rate * reach // 1000)
            if match >= enough:
                lag = found
                lags[index] = found
                break
    return lags


def _global_lag(s: Float, h: Float) -> int:
    size = 1 << (len(s) + len(h)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(h, size) * np.conj(np.fft.rfft(s, size)), size)
    peak = int(np.argmax(correlation))
    return peak if peak < len(h) else peak - size


def _best_lag(piece: Float, h: Float, at: int, lag: int, reach: int) -> tuple[int, float]:
    """Find the lag within `reach` of `lag` at which `h` is most like `piece`.

    Returned with the correlation there: 1 is the same.
    """
    low = max(0, at + lag - reach)
    area = h[low : max(low, at + lag + reach + len(piece))]
    if len(area) < len(piece):
        return lag, 0.0
    if reach * len(piece) < 1 << 18:
        products = np.correlate(area, piece, "valid")
    else:
        size = 1 << len(area).bit_length()
        spectrum = np.fft.rfft(area, size) * np.conj(np.fft.rfft(piece, size))
        products = np.fft.irfft(spectrum, size)[: len(area) - len(piece) + 1]
    energy = np.cumsum(np.concatenate(([0.0], area * area)))
    norms = np.sqrt(np.maximum(energy[len(piece) :] - energy[: -len(piece)], 1.0) * float(piece @ piece))
    correlation = products / norms
    best = int(np.argmax(correlation))
    return low + best - at, float(correlation[best])


def _lost_frames(s: Float, h: Float, lags: Float, window: int, rate: int) -> int:
    """Count the frames that are not where their window's lag, or a neighbour's, is.

    Or those that the lag jumped over, if they are more.
    """
    frame = rate * FRAME_MS // 1000
    missing = 0
    known = _filled(lags)
    near = rate * NEAR_MS // 1000
    for at in range(0, len(s) - frame + 1, frame):
        piece = s[at : at + frame]
        if _rms(piece) < AUDIBLE:
            continue
        index = at // window
        around = {int(x) for x in known[max(0, index - 1) : index + 2] if np.isfinite(x)}
        if not any(_best_lag(piece, h, at, lag, near)[1] >= MATCH_FRAME for lag in around):
            missing += 1
    steps = np.diff(lags[np.isfinite(lags)])
    jumped = -float(steps[steps < 0].sum()) if len(steps) else 0.0
    return max(missing, round(jumped / frame))


def _filled(lags: Float) -> Float:
    """Close each gap in `lags` by the lag before it, the first by the one after it."""
    filled = lags.copy()
    finite = np.flatnonzero(np.isfinite(lags))
    if len(finite):
        filled[: finite[0]] = lags[finite[0]]
        before = finite[np.maximum(np.searchsorted(finite, np.arange(len(lags)), "right") - 1, 0)]
        filled = lags[before]
    return filled


def _rms(piece: Float) -> float:
    return float(np.sqrt(np.mean(piece * piece))) if len(piece) else 0.0
