"""What a caller and a bot hear, in PESQ, of speech in seven languages and of tones, through the transcoders of a call.

Bounds are a little below what was measured, and above what the design's first filter gave (`tests/bench/filters.py`).
"""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.files import convert
from gateway.audio.format import AudioFormat
from gateway.audio.g711 import Pcm
from gateway.audio.transcoder import Transcoder
from tests.kit.sound import MULAW, mean_pesq, narrow_pesq, require_pesq, through, voices, wide_pesq

ALAW = AudioFormat("alaw", 8_000)
BOT_RATES = (16_000, 22_050, 24_000, 48_000)
MOST_LOST = 0.04
"""PESQ below one pass of G.711 that speech may be after a bot which echoes it."""


@pytest.fixture
def pesq() -> None:
    require_pesq()


in_pesq = pytest.mark.usefixtures("pesq")


def l16(rate: int) -> AudioFormat:
    return AudioFormat("l16", rate)


def there_and_back(wire: AudioFormat, bot: AudioFormat, pcm: Pcm) -> Pcm:
    """What a caller on this wire hears of themselves."""
    first = Transcoder(l16(wire.sample_rate), wire)
    return through((first, Transcoder(wire, bot), Transcoder(bot, wire), Transcoder(wire, first.source)), pcm)


def one_pass(wire: AudioFormat, pcm: Pcm) -> Pcm:
    """What anybody hears on this wire."""
    linear = l16(wire.sample_rate)
    return through((Transcoder(linear, wire), Transcoder(wire, linear)), pcm)


def buzz(rate: int) -> Pcm:
    """Two seconds of all harmonics of 150 Hz below 3.8 kHz, in syllables, as PESQ knows nothing but speech."""
    t = np.arange(2 * rate) / rate
    tone = sum(np.sin(2 * np.pi * 150 * n * t + n * n) / n for n in range(1, 26))
    tone *= np.sin(2 * np.pi * 2 * t).clip(0)
    return np.rint(tone / np.abs(tone).max() * 16_000).astype(np.int16)


@in_pesq
@pytest.mark.parametrize("rate", BOT_RATES)
@pytest.mark.parametrize("wire", [MULAW, ALAW], ids=["mulaw", "alaw"])
def test_there_and_back_sounds_like_one_pass_of_g711(wire: AudioFormat, rate: int) -> None:
    speech = voices(8_000)
    lost = {
        name: narrow_pesq(pcm, one_pass(wire, pcm)) - narrow_pesq(pcm, there_and_back(wire, l16(rate), pcm))
        for name, pcm in speech.items()
    }
    assert len(lost) >= 6
    assert np.mean(list(lost.values())) <= MOST_LOST
    assert max(lost.values()) <= 2 * MOST_LOST  # and no voice is sacrificed


@in_pesq
@pytest.mark.parametrize("rate", BOT_RATES)
def test_a_bot_is_heard_like_one_pass_of_g711(rate: int) -> None:
    line, way = Transcoder(MULAW, l16(8_000)), Transcoder(l16(rate), MULAW)
    heard = mean_pesq(narrow_pesq, 8_000, lambda name: through((way, line), voices(rate)[name]))
    best = mean_pesq(narrow_pesq, 8_000, lambda name: one_pass(MULAW, voices(8_000)[name]))
    assert heard >= best - 0.02


@in_pesq
def test_a_bot_hears_little_above_the_callers_band() -> None:
    """PESQ wide-band counts images; G.711 and soxr's best, which takes its time, give 4.08, a wider filter 3.6."""
    scores = [
        wide_pesq(
            convert(pcm, 8_000, 16_000), through((Transcoder(l16(8_000), MULAW), Transcoder(MULAW, l16(16_000))), pcm)
        )
        for pcm in voices(8_000).values()
    ]
    assert np.mean(scores) >= 3.75


@in_pesq
@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_a_wideband_leg_keeps_its_sound(rate: int) -> None:
    heard = mean_pesq(wide_pesq, 16_000, lambda name: there_and_back(l16(16_000), l16(rate), voices(16_000)[name]))
    assert heard >= 4.6  # of 4.644


@in_pesq
@pytest.mark.parametrize("rate", BOT_RATES)
def test_tones_there_and_back_sound_like_one_pass_of_g711(rate: int) -> None:
    tones = buzz(8_000)
    best = narrow_pesq(tones, one_pass(MULAW, tones))
    assert narrow_pesq(tones, there_and_back(MULAW, l16(rate), tones)) >= best - MOST_LOST


@pytest.mark.parametrize("rate", BOT_RATES)
@pytest.mark.parametrize(("hz", "most"), [(300, 0.1), (1_004, 0.1), (3_400, 0.1), (3_600, 0.3), (3_800, 2.2)])
def test_the_band_is_level_up_to_its_top(hz: int, most: float, rate: int) -> None:
    tone = np.rint(8_000 * np.sin(2 * np.pi * hz * np.arange(8_000) / 8_000)).astype(np.int16)
    heard = there_and_back(MULAW, l16(rate), tone)[800:-800]
    assert abs(20 * np.log10(heard.std() / tone[800:-800].std())) <= most
