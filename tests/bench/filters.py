"""How the resamplers' filters were chosen: what speech sounds like through each of many, at the same delay.

    python -m tests.bench.filters

It prints three tables in a minute or two, on the voices of `fixtures/voices`, and then what the chosen two give.

- to the bot: PESQ wide-band of the caller's speech as a bot hears it at 16 kHz. Images above 4 kHz cost it.
- to the caller: PESQ narrow-band of a bot's speech at 16 and 24 kHz, less one pass of G.711. Aliases would cost it.
- there and back: PESQ narrow-band of a caller's speech through a bot that echoes it, less one pass of G.711: what the
  two filters together take off the top of the band. It asks for wide ones, and the first table for a narrow one.

Of all pairs that lose at most MOST_LOSS there and back, and let through no more than LEAKAGE from 4.6 kHz on, the one
that sounds best to the bot is the one in gateway/audio/resample.py.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import numpy.typing as npt

from gateway.audio.files import convert
from gateway.audio.format import AudioFormat
from gateway.audio.g711 import Pcm
from gateway.audio.resample import DECIMATE, INTERPOLATE, Shape, prototype
from gateway.audio.transcoder import Transcoder
from tests.kit.sound import MULAW, g711, mean_pesq, narrow_pesq, through, voices, wide_pesq

SHARP = Shape(0.48, 9.4)
"""The filter of the first version: made for -93 dB above 4.6 kHz, of which μ-law can use 40."""
UP = [SHARP, *(Shape(c, b) for c in (0.485, 0.49, 0.495, 0.5, 0.505) for b in (4.0, 5.0, 5.5, 6.0, 7.0))]
DOWN = [SHARP, *(Shape(c, b) for c in (0.49, 0.5, 0.505, 0.51, 0.515, 0.52, 0.525) for b in (5.0, 5.5, 6.0))]
BACK = [shape for shape in DOWN if shape.beta != 6.0]
TONES = (3_400, 3_600, 3_800, 4_000, 4_200)
STOP = 4_600
HEAD = "cutoff beta" + "".join(f"{hz:>8}" for hz in TONES) + f"{f'>={STOP}':>8}"
MOST_LOSS, LEAKAGE = 0.025, -57.0
"""PESQ, of the 0.04 that are the goal; dB, half as much again as the noise of μ-law (-38)."""


def resampled(pcm: Pcm, source: int, target: int, shape: Shape) -> Pcm:
    """What a filter of this shape makes of all of `pcm`, its delay taken off."""
    common = math.gcd(source, target)
    up, down = target // common, source // common
    taps = prototype(up, down, shape)
    stuffed = np.zeros(pcm.size * up)
    stuffed[::up] = pcm
    size = 1 << (stuffed.size + taps.size - 2).bit_length()
    y = np.fft.irfft(np.fft.rfft(stuffed, size) * np.fft.rfft(taps, size), size)
    out: Pcm = np.rint(y[taps.size // 2 :][: stuffed.size : down]).clip(-32768, 32767).astype(np.int16)
    return out


def response(shape: Shape) -> tuple[list[float], float]:
    """Gain in dB at TONES, and the highest from STOP on, between 8 and 48 kHz."""
    taps, size = prototype(6, 1, shape), 1 << 17
    db: npt.NDArray[np.float64] = 20 * np.log10(np.abs(np.fft.rfft(taps, size)) / 6 + 1e-9)
    hz = np.fft.rfftfreq(size, 1 / 48_000)
    return [float(db[np.searchsorted(hz, tone)]) for tone in TONES], float(db[hz >= STOP].max())


def row(shape: Shape, *scores: float, mark: Shape) -> str:
    tones, stop = response(shape)
    gains = "".join(f"{gain:8.2f}" for gain in tones) + f"{stop:8.1f}"
    return (
        f"{shape.cutoff:6.3f}{shape.beta:5.1f}{gains}" + "".join(f"{x:9.3f}" for x in scores) + " <" * (shape == mark)
    )


def main() -> None:
    began = time.monotonic()
    sent = {name: g711(pcm) for name, pcm in voices(8_000).items()}
    one_pass = mean_pesq(narrow_pesq, 8_000, sent.__getitem__)
    print(f"{len(sent)} voices; PESQ-NB of one pass of G.711: {one_pass:.3f}")
    heard = {up: {name: resampled(pcm, 8_000, 16_000, up) for name, pcm in sent.items()} for up in UP}
    to_bot = print_to_the_bot(sent, heard)
    print_to_the_caller(one_pass)
    losses = print_there_and_back(heard, one_pass)
    good = [(up, down) for (up, down), loss in losses.items() if loss >= -MOST_LOSS and response(down)[1] <= LEAKAGE]
    up, down = max(good, key=lambda pair: (to_bot[pair[0]], losses[pair]))
    print(
        f"\nbest of those that lose at most {MOST_LOSS}, and {LEAKAGE:.0f} dB from {STOP} Hz on: up {up}, down {down}"
    )
    print_chosen(one_pass)
    print(f"\n{time.monotonic() - began:.0f} s in all")


def print_to_the_bot(sent: dict[str, Pcm], heard: dict[Shape, dict[str, Pcm]]) -> dict[Shape, float]:
    soxr = mean_wide({name: convert(pcm, 8_000, 16_000) for name, pcm in sent.items()})
    print(f"\nto the bot, in dB and PESQ-WB (soxr VHQ, which takes its time: {soxr:.3f})\n{HEAD}{'16 kHz':>9}")
    scores = {}
    for up, voiced in heard.items():
        scores[up] = mean_wide(voiced)
        print(row(up, scores[up], mark=INTERPOLATE), flush=True)
    return scores


def print_to_the_caller(one_pass: float) -> None:
    print(f"\nto the caller, in dB and PESQ-NB less one pass\n{HEAD}{'16 kHz':>9}{'24 kHz':>9}")
    for down in DOWN:
        scores = [
            mean_pesq(narrow_pesq, 8_000, lambda name: g711(resampled(voices(rate)[name], rate, 8_000, down)))  # noqa: B023
            for rate in (16_000, 24_000)
        ]
        print(row(down, *(score - one_pass for score in scores), mark=DECIMATE), flush=True)


def print_there_and_back(heard: dict[Shape, dict[str, Pcm]], one_pass: float) -> dict[tuple[Shape, Shape], float]:
    print("\nthere and back, PESQ-NB less one pass; down: to the bot, across: to the caller")
    print(" " * 11 + "".join(f"{f'{down.cutoff:.3f} {down.beta}':>11}" for down in BACK))
    losses = {}
    for up, voiced in heard.items():
        for down in BACK:
            score = mean_pesq(narrow_pesq, 8_000, lambda name: g711(resampled(voiced[name], 16_000, 8_000, down)))  # noqa: B023
            losses[up, down] = score - one_pass
        print(f"{up.cutoff:6.3f}{up.beta:5.1f}" + "".join(f"{losses[up, down]:11.3f}" for down in BACK), flush=True)
    return losses


def mean_wide(heard: dict[str, Pcm]) -> float:
    """PESQ wide-band of what is heard at 16 kHz of the voices at 8."""
    pairs = [(convert(pcm, 8_000, 16_000), heard[name]) for name, pcm in voices(8_000).items()]
    return float(np.mean(list(itertools.starmap(wide_pesq, pairs))))


def print_chosen(one_pass: float) -> None:
    """The chosen two, as the transcoders have them, in frames of 20 ms."""
    print("\nthe chosen two, as a call has them, there and back")
    for rate in (16_000, 22_050, 24_000, 48_000):
        bot = AudioFormat("l16", rate)
        loss = one_pass - mean_pesq(
            narrow_pesq,
            8_000,
            lambda name: through((Transcoder(MULAW, bot), Transcoder(bot, MULAW)), voices(8_000)[name]),  # noqa: B023
        )
        print(f"mulaw 8000 - l16 {rate:5}: PESQ-NB {one_pass - loss:.3f}, {loss:.3f} below one pass")
    wide = AudioFormat("l16", 16_000)
    for rate in (24_000, 48_000):
        bot = AudioFormat("l16", rate)
        score = mean_pesq(
            wide_pesq,
            16_000,
            lambda name: through((Transcoder(wide, bot), Transcoder(bot, wide)), voices(16_000)[name]),  # noqa: B023
        )
        print(f"l16 16000 - l16 {rate:7}: PESQ-WB {score:.3f} of 4.644")


if __name__ == "__main__":
    main()
