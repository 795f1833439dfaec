"""Alignment of signals whose delay, loss and padding are known."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from gateway.audio import g711
from gateway.simulator.echo import align
from gateway.simulator.plan import Pcm

from .plans import speech

RATE = 8000


def delayed(pcm: Pcm, samples: int) -> Pcm:
    return np.concatenate((np.zeros(samples, np.int16), pcm))


@pytest.fixture(scope="module")
def voice() -> Pcm:
    return speech(3.0)


@pytest.mark.parametrize("samples", [0, 1, 160, 4000])
def test_a_delayed_echo_is_found_to_the_sample(voice: Pcm, samples: int) -> None:
    alignment = align(voice, delayed(voice, samples), RATE)
    assert alignment.lost == 0
    assert set(alignment.lags.tolist()) == {float(samples)}


def test_an_echo_that_begins_late_has_lost_its_beginning(voice: Pcm) -> None:
    alignment = align(voice, voice[8000:], RATE)
    assert alignment.lag_at(16000) == -8000
    audible = sum(1 for at in range(0, 8000, 160) if np.sqrt(np.mean(voice[at : at + 160].astype(float) ** 2)) >= 200)
    assert abs(alignment.lost - audible) <= 2


def test_an_echo_that_is_cut_short_has_lost_its_end(voice: Pcm) -> None:
    assert align(voice, voice[:16000], RATE).lost > 10


def test_a_deleted_piece_is_counted_in_frames(voice: Pcm) -> None:
    heard = np.concatenate((voice[:9600], voice[9600 + 5 * 160 :]))
    alignment = align(voice, heard, RATE)
    assert 4 <= alignment.lost <= 6
    assert alignment.lag_at(4000) == 0
    assert alignment.lag_at(20000) == -800


def test_an_inserted_pause_is_a_later_lag_and_no_loss(voice: Pcm) -> None:
    heard = np.concatenate((voice[:9600], np.zeros(960, np.int16), voice[9600:]))
    alignment = align(voice, heard, RATE)
    assert alignment.lost == 0
    assert alignment.lag_at(20000) == 960


def test_frames_replaced_by_silence_are_lost(voice: Pcm) -> None:
    heard = voice.copy()
    heard[9600 : 9600 + 3 * 160] = 0
    assert align(voice, heard, RATE).lost == 3


def test_a_resampled_and_companded_echo_is_whole(voice: Pcm) -> None:
    up = soxr.resample(voice, 8000, 16000)
    back = soxr.resample(up, 16000, 8000).astype(np.int16)
    heard = delayed(g711.mulaw_decode(g711.mulaw_encode(back)), 777)
    alignment = align(voice, heard, RATE)
    assert alignment.lost == 0
    assert abs(alignment.lag_at(8000) - 777) <= 1


def test_other_audio_is_no_echo(voice: Pcm) -> None:
    noise = np.random.default_rng(1).integers(-8000, 8000, len(voice)).astype(np.int16)
    alignment = align(voice, noise, RATE)
    assert not alignment.found
    assert alignment.lost > 50


@pytest.mark.parametrize(("sent", "heard"), [(0, 0), (8000, 0), (0, 8000), (100, 8000)])
def test_nothing_to_compare_is_no_error(sent: int, heard: int) -> None:
    alignment = align(np.zeros(sent, np.int16), np.zeros(heard, np.int16), RATE)
    assert not alignment.found
    assert alignment.lost == 0
    assert np.isnan(alignment.lag_at(0))
