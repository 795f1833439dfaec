"""Changing the sample rate of a stream without making a conversation wait.

`resampler(source, target)` picks one of three, all with the same four methods:

- `Bypass` for equal rates;
- `Polyphase`, ours, for small integer ratios (all pairs of 8, 16, 24 and 48 kHz): 2 ms of delay at 8 kHz;
- `Fractional`, ours, for the others (speech engines at 22.05 and 44.1 kHz).

soxr is the better filter, and too late: fed 20 ms chunks, 8 to 16 kHz, its stream gives nothing for 100 ms
and then all of it at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gateway.audio.g711 import Pcm

REACH = 16
"""The filter's delay, in samples at the lower of the two rates; it reaches as far again to the other side."""
MAX_RATIO = 6
"""The larger term of source : target, in lowest terms, that a Polyphase is made for."""
MAX_PHASES = 512
"""Of a Fractional's bank; all ratios of 11.025, 22.05 and 44.1 kHz to 8, 16, 24 and 48 kHz have fewer."""
BLOCK_ROWS = 15
"""Rows of new samples taken at once: 20 ms for every pair of 8, 16, 24 and 48 kHz."""
MAX_PRODUCT = 2**18
"""A product smaller than this (m·n·k: SMP_THRESHOLD_MIN · GEMM_MULTITHREAD_THRESHOLD in interface/gemm.c) is computed
by OpenBLAS on the calling thread. Blocks of `BLOCK_ROWS` are."""

_ONE = 2.0**24
_LOWEST = np.array(-32768.0)
_HIGHEST = np.array(32767.0)


@dataclass(frozen=True, slots=True)
class Shape:
    """A sinc in a Kaiser window. cutoff: where it is at -6 dB, as a part of the lower rate. beta: of the window."""

    cutoff: float
    beta: float


INTERPOLATE = Shape(0.495, 5.5)
DECIMATE = Shape(0.52, 5.5)
"""Found for REACH = 16 by what is heard (`python -m tests.bench.filters`): one after the other they leave the band's
top, so that speech to a bot and back sounds like one pass of G.711. The first is the narrower one, as a bot would hear
images above the lower band, while what aliases into its top is not heard in a telephone."""


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


def resampler(source_rate: int, target_rate: int, *, long_blocks: bool = False) -> Resampler:
    """The resampler for these two rates, in Hz. long_blocks: what goes in is much longer than 20 ms."""
    if source_rate == target_rate:
        return Bypass()
    if max(_ratio(source_rate, target_rate)) <= MAX_RATIO:
        return Polyphase(source_rate, target_rate, long_blocks=long_blocks)
    return Fractional(source_rate, target_rate)


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

    def __init__(self, source_rate: int, target_rate: int, *, long_blocks: bool = False) -> None:
        self.delay = REACH / min(source_rate, target_rate)
        self._bank = bank = _bank(*_ratio(source_rate, target_rate))
        rows = (MAX_PRODUCT - 1) // bank.matrix.size if long_blocks else BLOCK_ROWS
        self._line = np.zeros((rows + 2) * bank.row, np.int16)
        self._windows = np.lib.stride_tricks.sliding_window_view(self._line, 2 * bank.row)[:: bank.row]
        self._most = rows * bank.row
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


def prototype(up: int, down: int, shape: Shape | None = None) -> npt.NDArray[np.float64]:
    """The taps, at `up` times the source rate: symmetric, multiples of 2^-24, each of the `up` phases adding up
    to exactly 1. shape: None is the one for this direction.
    """
    shape = shape or _shape(up, down)
    times = max(up, down)  # of the lower rate
    centre = REACH * times
    at = np.arange(-centre, centre + 1)
    ideal = np.sinc(2 * shape.cutoff * at / times) * np.kaiser(at.size, shape.beta)
    taps = np.empty_like(ideal)
    for phase in range(up):
        mine = np.arange(phase, at.size, up)
        taps[mine] = np.rint(ideal[mine] / ideal[mine].sum() * _ONE)
        # What rounding left over goes to the tap next to the centre, or to both if two are equally near.
        near = mine[np.abs(at[mine]) == np.abs(at[mine]).min()]
        taps[near] += (_ONE - taps[mine].sum()) / near.size
    return taps / _ONE


def _shape(up: float, down: float) -> Shape:
    return INTERPOLATE if up > down else DECIMATE


def _ratio(source_rate: int, target_rate: int) -> tuple[int, int]:
    """(up, down): target over source in lowest terms."""
    common = math.gcd(source_rate, target_rate)
    return target_rate // common, source_rate // common


class Fractional:
    """Any two rates: the same filter as Polyphase's, its taps looked up for each sample that comes out.

    After n samples in, n · target / source have come out, rounded up. soxr's stream keeps step only with its
    variable-rate engine (`vr=True`), which soxr 1.0 lacks, and Pipecat takes no other soxr.
    """

    __slots__ = ("_bank", "_down", "_history", "_next", "_phases", "_up", "delay")

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.delay = REACH / min(source_rate, target_rate)
        self._up, self._down = _ratio(source_rate, target_rate)
        self._phases = min(self._up, MAX_PHASES)
        self._bank = _phases(self._phases, max(1.0, source_rate / target_rate), _shape(self._up, self._down))
        self._history = np.zeros(self._bank.shape[1] - 1, np.int16)
        self._next = 0

    def process(self, pcm: Pcm) -> Pcm:
        if not pcm.size:
            return pcm
        line = np.concatenate((self._history, pcm))
        # In parts of a sample, `up` to each, from the first new one: where a sample is made, and where the next begins.
        ends = pcm.size * self._up
        made = max(0, -((self._next - ends) // self._down))
        at = self._next + np.arange(made) * self._down
        self._next += made * self._down - ends
        self._history = line[pcm.size :].copy()  # not a view: the line may be long, and `reset` writes
        whole, part = np.divmod(at, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(line, self._bank.shape[1])[whole]
        y = np.einsum("jk,jk->j", windows, self._taps(part))
        np.rint(y, out=y)
        out: Pcm = y.clip(_LOWEST, _HIGHEST, out=y).astype(np.int16)
        return out

    def flush(self) -> Pcm:
        """The rest of the filter's response: twice `delay`."""
        tail = self.process(np.zeros(self._history.size, np.int16))
        self.reset()
        return tail

    def reset(self) -> None:
        self._history[:] = 0
        self._next = 0

    def _taps(self, part: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if self._phases == self._up:
            taps: npt.NDArray[np.float64] = self._bank[part]
            return taps
        # More phases than the bank has: each lies between two of its own.
        phase, rest = np.divmod(part * self._phases, self._up)
        share = (rest / self._up)[:, np.newaxis]
        between: npt.NDArray[np.float64] = self._bank[phase] * (1 - share) + self._bank[phase + 1] * share
        return between


@lru_cache(maxsize=16)  # a bank takes up to 0.8 MB
def _phases(phases: int, times: float, shape: Shape) -> npt.NDArray[np.float64]:
    """For each of `phases` + 1 places from one sample of the source to the next, the taps for the samples before it,
    oldest first, that add up to 1. times: the source rate, of the lower one.
    """
    centre = REACH * times
    back = np.arange(int(2 * centre) + 1, -1, -1)
    at = np.arange(phases + 1)[:, np.newaxis] / phases + back - centre
    inside = np.sqrt((1 - (at / centre) ** 2).clip(0))
    taps = np.where(np.abs(at) <= centre, np.sinc(2 * shape.cutoff * at / times) * np.i0(shape.beta * inside), 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
    taps.setflags(write=False)
    return taps
