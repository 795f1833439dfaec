"""What a 20 ms block costs on each path, beside soxr's stream on the same data in the same run.

    python tests/audio/bench_audio.py

Medians of many short runs, in µs. Absolute figures move from machine to machine; the ratio moves less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import soxr

from gateway.audio.format import AudioFormat
from gateway.audio.resample import resampler
from gateway.audio.transcoder import Transcoder

RATES = (8_000, 16_000, 22_050, 24_000, 48_000)
PATHS = (
    ("mulaw", 8_000, "l16", 16_000),
    ("l16", 16_000, "mulaw", 8_000),
    ("alaw", 8_000, "l16", 16_000),
    ("l16", 16_000, "alaw", 8_000),
    ("mulaw", 8_000, "l16", 8_000),
    ("l16", 8_000, "mulaw", 8_000),
    ("mulaw", 8_000, "alaw", 8_000),
    ("mulaw", 8_000, "mulaw", 8_000),
    ("mulaw", 8_000, "l16", 24_000),
    ("l16", 24_000, "mulaw", 8_000),
    ("l16", 22_050, "mulaw", 8_000),
)


def median_us(call: Callable[[], object], runs: int = 201, each: int = 50) -> float:
    def one() -> float:
        start = time.perf_counter()
        for _ in range(each):
            call()
        return (time.perf_counter() - start) / each * 1e6

    return statistics.median(one() for _ in range(runs))


def noise(rate: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-9_000, 9_000, rate // 50).astype(np.int16)


def main() -> None:
    print(f"{'resampler':28}{'µs':>8}{'soxr HQ':>10}{'HQ / ours':>11}")
    for source in RATES:
        for target in RATES:
            if source == target:
                continue
            pcm, ours = noise(source), resampler(source, target)
            hq = soxr.ResampleStream(source, target, 1, dtype="int16", quality="HQ")
            a, b = (
                median_us(lambda: ours.process(pcm)),  # noqa: B023 - called before the next round
                median_us(lambda: hq.resample_chunk(pcm)),  # noqa: B023
            )
            print(f"{source:>6} -> {target:<18}{a:>8.2f}{b:>10.2f}{b / a:>11.2f}")
    print(f"\n{'transcoder':28}{'µs':>8}")
    for encoding, source, to, target in PATHS:
        wire = AudioFormat(encoding, source)
        block, transcoder = wire.silence(wire.bytes_for_ms(20)), Transcoder(wire, AudioFormat(to, target))
        name = f"{encoding} {source} -> {to} {target}"
        print(f"{name:28}{median_us(lambda: transcoder.feed(block)):>8.2f}")  # noqa: B023


if __name__ == "__main__":
    main()
