"""A process that is killed in the middle of its recordings: they are playable, whole up to the last second."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from gateway.call_recording.folder import recover
from tests.kit.processes import environment
from tests.kit.waiting import PATIENCE

SPEAKS = """
import sys, time
import numpy as np
from gateway.audio.format import AudioFormat
from gateway.call_recording.writer import RecordingThread

writer, began = RecordingThread(), time.monotonic()
calls = [writer.record(f"s{n}", sys.argv[1], sys.argv[2], 16000, began, print) for n in range(3)]
noise = np.random.default_rng(1).integers(1, 3000, 16000).astype("<i2")
for call in calls:
    call.stream(*[AudioFormat.of("l16", 16000)] * 2, began)
print("recording", flush=True)
frame = 0
while True:
    now = time.monotonic()
    while began + frame * 0.02 <= now:
        at, data = began + frame * 0.02, noise[frame % 50 * 320 :][:320].tobytes()
        for call in calls:
            call.said(data, at)
            call.heard(data, at, at)
        frame += 1
    time.sleep(0.005)
"""


@pytest.mark.parametrize("ending", ["flac", "wav"])
def test_a_recording_is_whole_to_the_last_second(ending, tmp_path) -> None:
    arguments = [sys.executable, "-c", SPEAKS, str(tmp_path), ending]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None and process.stdout.readline() == b"recording\n"
    began = time.monotonic()
    time.sleep(random.uniform(1.2, 1.6))
    process.send_signal(signal.SIGKILL)
    lasted = time.monotonic() - began
    process.wait(PATIENCE)
    process.stdout.close()
    found = list(recover(str(tmp_path)))
    assert [path.name for path in found] == [f"s{n}.{ending}" for n in range(3)]
    assert sorted(tmp_path.iterdir()) == found
    noise = np.random.default_rng(1).integers(1, 3000, 16000).astype("<i2")
    for path in found:
        stereo = soundfile.read(path, dtype="int16")[0]
        assert len(stereo) / 16000 > lasted - 1.0
        assert (stereo == np.resize(noise, len(stereo))[:, np.newaxis]).all()
