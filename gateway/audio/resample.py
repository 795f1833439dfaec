"""Changing the sample rate of a stream without making a conversation wait.

`resampler(source, target)` picks one of three, all with the same four methods:

- `Bypass` for equal rates;
- `Polyphase`, ours, for small integer ratios (all pairs of 8, 16, 24 and 48 kHz): 2 ms of delay at 8 kHz;
- `SoxrStream` for the others (speech engines at 22.05 and 44.1 kHz).

soxr is the better filter, and too late: fed 20 ms chunks, 8 to 16 kHz, its stream gives nothing for 100 ms
and then all of it at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gateway.audio.g711 import Pcm

REACH = 16
"""The filter's delay, in samples at the lower of the two rates; it reaches as far again to the other side."""
CUTOFF = 0.48
BETA = 9.4
"""The sinc's cutoff, as a part of the lower rate, and the shape of its Kaiser window. Found by search for
REACH = 16: -0.3 dB at 0.425 and -93 dB at 0.575 of the lower rate (3.4 and 4.6 kHz of 8)."""
MAX_RATIO = 6
"""The larger term of source : target, in lowest terms, that a Polyphase is made for."""
BLOCK_ROWS = 15
"""Rows of new samples taken at once: 20 ms for every pair of 8, 16, 24 and 48 kHz; and a product so small
(m·n·k < 2^18: SMP_THRESHOLD_MIN · GEMM_MULTITHREAD_THRESHOLD in interface/gemm.c) that OpenBLAS computes it
on the calling thread."""

_ONE = 2.0**24
_LOWEST = np.array(-32768.0)
_HIGHEST = np.array(32767.0)


class Resampler(Protocol):
    """One stream's change of rate; one direction."""

    @property
    def delay(self) -> float:
        """Seconds by which what comes out is behind what went in."""

    def process(self, pcm: Pcm) -> Pcm:
        """The samples (int16, one dimension) that follow from `pcm`. Any length, also 0."""

    def flush(self) -> Pcm:
        """What is still inside, at the end of a stream. Afterwards as new."""

    def reset(self) -> None:
        """Forget all that went in."""


def resampler(source_rate: int, target_rate: int) -> Resampler:
    """The resampler for these two rates, in Hz."""
    if source_rate == target_rate:
        return Bypass()
    if max(_ratio(source_rate, target_rate)) <= MAX_RATIO:
        return Polyphase(source_rate, target_rate)
    return SoxrStream(source_rate, target_rate)


class Bypass:
    """Equal rates."""

    delay = 0.0

    def process(self, pcm: Pcm) -> Pcm:
        return pcm

    def flush(self) -> Pcm:
        return np.empty(0, np.int16)

    def reset(self) -> None:
        pass


class Polyphase:
    """Linear-phase FIR, vectorized; a block in, its whole block out.

    After n samples in, floor(n · target / source) have come out, whatever the blocks were, and they are the
    same to the bit: the taps are multiples of 2^-24, so every sum is exact in a double, and no order of
    summation, no block length and no BLAS makes a difference. Each phase passes DC with exactly 1: a constant
    stays a constant.

    The samples stand in `_line`: one row of history, then the new ones. Each row of output is made from a
    window of two rows, the one before and its own. The windows overlap, and BLAS takes no such matrix: so
    they are copied side by side (as the change from int16 to float64 does anyhow) and are then one product.
    """

    __slots__ = ("_bank", "_line", "_most", "_rest", "_windows", "delay")

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.delay = REACH / min(source_rate, target_rate)
        self._bank = bank = _bank(*_ratio(source_rate, target_rate))
        self._line = np.zeros((BLOCK_ROWS + 2) * bank.row, np.int16)
        self._windows = np.lib.stride_tricks.sliding_window_view(self._line, 2 * bank.row)[:: bank.row]
        self._most = BLOCK_ROWS * bank.row
        self._rest = 0  # samples beyond the last whole multiple of `down`: output and input grids meet only there

    def process(self, pcm: Pcm) -> Pcm:
        if pcm.size <= self._most:
            return self._block(pcm)
        return np.concatenate([self._block(pcm[i : i + self._most]) for i in range(0, pcm.size, self._most)])

    def flush(self) -> Pcm:
        """The rest of the filter's response: twice `delay`."""
        tail = self.process(np.zeros(self._bank.history, np.int16))
        self.reset()
        return tail

    def reset(self) -> None:
        self._line[:] = 0
        self._rest = 0

    def _block(self, pcm: Pcm) -> Pcm:
        """The same for what fits into the line."""
        bank, line, rest = self._bank, self._line, self._rest
        row = bank.row
        have = rest + pcm.size
        line[row + rest : row + have] = pcm
        y = self._windows[: -(-have // row)].astype(np.float64).dot(bank.matrix)
        np.rint(y, out=y)
        y.clip(_LOWEST, _HIGHEST, out=y)
        # Cut off: in front, what has been given before; behind, what no sample has come for yet.
        out: Pcm = y.astype(np.int16).ravel()[rest * bank.up // bank.down : have * bank.up // bank.down]
        self._rest = have % bank.down
        done = have - self._rest
        line[: row + self._rest] = line[done : row + have]
        return out


@dataclass(frozen=True, slots=True)
class _Bank:
    """The filter for target : source = up : down, as a matrix.

    row: samples in of one row, a multiple of `down`. history: samples that the filter looks back. matrix:
    from a window of 2 · row samples to the row · up / down that come out for the second half of them.
    """

    up: int
    down: int
    row: int
    history: int
    matrix: npt.NDArray[np.float64]


@cache
def _bank(up: int, down: int) -> _Bank:
    taps = prototype(up, down)
    history = -(-(taps.size - 1) // up)
    row = -(-history // down) * down
    # At up · source, where both grids lie, sample i of the second half is at i · up and output j at j · down.
    came = (np.arange(2 * row) - row) * up
    goes = np.arange(row * up // down) * down
    age = goes[np.newaxis, :] - came[:, np.newaxis]
    matrix = np.where((age >= 0) & (age < taps.size), taps[age.clip(0, taps.size - 1)], 0.0)
    matrix.setflags(write=False)
    return _Bank(up, down, row, history, matrix)


def prototype(up: int, down: int) -> npt.NDArray[np.float64]:
    """The taps, at `up` times the source rate: symmetric, multiples of 2^-24, each of the `up` phases adding up
    to exactly 1.
    """
    times = max(up, down)  # of the lower rate
    centre = REACH * times
    at = np.arange(-centre, centre + 1)
    ideal = np.sinc(2 * CUTOFF * at / times) * np.kaiser(at.size, BETA)
    taps = np.empty_like(ideal)
    for phase in range(up):
        mine = np.arange(phase, at.size, up)
        taps[mine] = np.rint(ideal[mine] / ideal[mine].sum() * _ONE)
        # What rounding left over goes to the tap next to the centre, or to both if two are equally near.
        near = mine[np.abs(at[mine]) == np.abs(at[mine]).min()]
        taps[near] += (_ONE - taps[mine].sum()) / near.size
    return taps / _ONE


def _ratio(source_rate: int, target_rate: int) -> tuple[int, int]:
    """(up, down): target over source in lowest terms."""
    common = math.gcd(source_rate, target_rate)
    return target_rate // common, source_rate // common


class SoxrStream:
    """Any two rates, by soxr: 5 to 40 ms of delay, steady.

    `vr=True`, soxr's variable-rate engine (the quality setting means nothing to it), keeps step with every
    chunk; its other engines work in bursts of 40 to 100 ms. Going down it is not quite linear in phase: to
    8 kHz, 3.6 kHz comes 1.5 ms later than 200 Hz. In floats, because soxr dithers int16, and silence must stay
    silent.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._rates = source_rate, target_rate
        self.reset()

    @property
    def delay(self) -> float:
        """Of the stream so far: time that went in less time that came out."""
        source_rate, target_rate = self._rates
        return max(0.0, self._taken / source_rate - self._given / target_rate)

    def process(self, pcm: Pcm) -> Pcm:
        return self._resample(pcm, last=False)

    def flush(self) -> Pcm:
        tail = self._resample(np.empty(0, np.int16), last=True)
        self.reset()
        return tail

    def reset(self) -> None:
        import soxr

        # A new one takes 5 µs, and needs no trust in what `clear()` leaves of the variable-rate engine.
        self._soxr: Any = soxr.ResampleStream(*self._rates, num_channels=1, dtype="float32", vr=True)
        self._taken = self._given = 0

    def _resample(self, pcm: Pcm, *, last: bool) -> Pcm:
        y = self._soxr.resample_chunk(pcm.astype(np.float32), last)
        self._taken += pcm.size
        self._given += y.size
        out: Pcm = np.rint(y).clip(-32768, 32767).astype(np.int16)
        return out
