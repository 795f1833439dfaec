"""What stands for audio that was lost on the way: the voice before it and the voice after it, each by its last period.

In the spirit of ITU-T G.711 Appendix I, which repeats the last period of what was heard and fades it within 60 ms. It
must guess while nothing comes. Here a gap is seen when later audio has come, so that is repeated too, backwards in
time, and one leads over to the other: no step remains at either end, and what came is passed on as it is.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from gateway.audio.format import AudioFormat
from gateway.audio.transcoder import Transcoder

FADE_MS = 60
"""Milliseconds within which a repeated voice fades (Appendix I): none stays the same for longer."""
TEMPLATE_MS = 5
"""Of the audio next to the gap, which is looked for in the audio next to it: so short that 20 ms hold a period."""
SHORTEST_MS, LONGEST_MS = 2.5, 15
"""Of a period: voices of 400 to 66 Hz."""
KEPT, KEPT_MS = 3, 30
"""The last payloads, and how much of the end of each is remembered. Three of 10 ms are 30; of longer ones the last
suffices, as a period and what it is looked for by are 20."""
SEARCH_RATE = 8_000
"""Hz at which a period is looked for: at higher rates not all samples are compared."""

Samples = npt.NDArray[np.float64]


class Concealment:
    """One stream's, in the carrier's format; before any change of rate."""

    __slots__ = ("_decode", "_encode", "_kept", "_made", "_recent", "_wire")

    def __init__(self, wire: AudioFormat) -> None:
        linear = AudioFormat("l16", wire.sample_rate)
        self._decode, self._encode = Transcoder(wire, linear), Transcoder(linear, wire)
        self._wire = wire
        self._kept = wire.bytes_for_ms(KEPT_MS)
        self._recent: deque[bytes] = deque(maxlen=KEPT)
        self._made = b""

    def heard(self, payload: bytes) -> None:
        """Remember what was heard, also in place of what was lost. Half a sample at its end is left out, as no voice
        is in what is read from the middle of samples."""
        size = len(payload) - len(payload) % self._wire.bytes_per_sample
        self._recent.append(payload[max(0, size - self._kept) : size])

    def conceal(self, size: int, more: int, after: bytes) -> bytes:
        """What stands for `size` lost bytes, of whole samples.

        more: bytes of the same gap that follow, and are asked for next. after: the audio that came behind the gap.
        """
        if len(self._made) != size + more:
            self._made = self._fill((size + more) // self._wire.bytes_per_sample, after)
        made, self._made = self._made[:size], self._made[size:]
        return made

    def _fill(self, length: int, after: bytes) -> bytes:
        """As many samples, from what was heard to what came after."""
        faded = min(length, FADE_MS * self._wire.sample_rate // 1000)
        to_after = _ramp(length)
        out = np.zeros(length)
        out[:faded] = self._go_on(self._to_samples(b"".join(self._recent)), faded)
        out *= to_after[::-1]
        back = self._go_on(self._to_samples(after[: self._kept])[::-1], faded)[::-1]
        out[length - faded :] += back * to_after[length - faded :]
        return self._encode.feed(np.rint(out).clip(-32768, 32767).astype("<i2").tobytes())

    def _go_on(self, heard: Samples, length: int) -> Samples:
        """What was heard, for so many samples more, fading. Zeros where too little was."""
        size = self._find_period(heard)
        if not size:
            return np.zeros(length)
        at = np.arange(length)
        period = heard[-size:].copy()
        # Its end leads over into its beginning, as what was before it did.
        blend = min(size // 4, heard.size - size)
        period[size - blend :] += (heard[-size - blend : -size] - period[size - blend :]) * _ramp(blend)
        out = period[at % size]
        # What follows would begin where the period before ended. It begins where this one ended.
        out += (heard[-1] - heard[-size - 1]) * (1 - (at + 1) * 4 / size).clip(0)
        out *= 1 - at * 1000 / (FADE_MS * self._wire.sample_rate)
        return out

    def _find_period(self, heard: Samples) -> int:
        """Samples after which the end of what was heard is most like itself; 0 if there is too little."""
        rate = self._wire.sample_rate
        size, shortest = rate * TEMPLATE_MS // 1000, int(rate * SHORTEST_MS / 1000)
        longest = min(rate * LONGEST_MS // 1000, heard.size - size)
        if longest < shortest:
            return 0
        every = rate // SEARCH_RATE
        earlier = heard[heard.size - size - longest : heard.size - shortest]
        windows = np.lib.stride_tricks.sliding_window_view(earlier, size)[:, ::every]
        likeness = windows @ heard[-size::every] / np.sqrt(np.einsum("ij,ij->i", windows, windows) + 1)
        return longest - int(np.argmax(likeness))

    def _to_samples(self, data: bytes) -> Samples:
        self._decode.reset()  # what came after a gap may end in half a sample
        return np.frombuffer(self._decode.feed(data), "<i2").astype(np.float64)


def _ramp(size: int) -> Samples:
    """From 0 to 1, both excluded."""
    return (np.arange(size) + 0.5) / size
