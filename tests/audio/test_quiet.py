from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.quiet import QUIET_PEAK, is_quiet


def pcm(*samples: int) -> bytes:
    return np.array(samples, np.int16).tobytes()


@pytest.mark.parametrize("peak", [0, 8, QUIET_PEAK, -QUIET_PEAK])
def test_an_idle_line_is_quiet(peak):
    assert is_quiet(pcm(0, peak, 0))


@pytest.mark.parametrize("peak", [QUIET_PEAK + 1, -QUIET_PEAK - 1, 32767, -32768])
def test_one_sample_of_sound_is_not(peak):
    assert not is_quiet(pcm(0, 0, peak))


def test_nothing_is_quiet():
    assert is_quiet(b"")
