from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile

from gateway.call_recording.files import FORMATS

RATE = 16000


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3000, (frames, 2)).astype("<i2")


def make(path, ending: str):
    return FORMATS[ending](os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), RATE)


@pytest.mark.parametrize("ending", ["flac", "wav"])
def test_what_is_written_is_read_back_to_the_sample(ending, tmp_path) -> None:
    path, said = tmp_path / f"a.{ending}", noise(RATE)
    file = make(path, ending)
    file.write(said[:5000].tobytes())
    file.write(said[5000:].tobytes())
    file.close()
    read, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE and np.array_equal(read, said)


def test_a_full_disk_is_an_os_error(tmp_path) -> None:
    for ending in FORMATS:
        with pytest.raises(OSError), open("/dev/full", "wb") as full:
            file = FORMATS[ending](os.dup(full.fileno()), RATE)
            for _ in range(100):
                file.write(noise(RATE).tobytes())
