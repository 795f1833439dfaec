"""A recorded call in virtual time: what the file holds, beside what was said and what the carrier played."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import soundfile

from gateway.audio import g711
from gateway.call_recording.recorder import CallRecorder
from gateway.media.bridge import Bridge
from gateway.media.types import BridgeLimits
from gateway.protocol import pcm
from gateway.simulator.playout import Playout
from tests.media.test_bridge import attach_stream, media

RATE = 8000
START = pcm.Start("s1", "support.acme", "twilio", 7, {"call_id": "CA1"}, RATE)


def speech(seed: int, frames: int) -> np.ndarray:
    """Bursts of noise, a different one each second, with a pause behind each: its place cannot be mistaken."""
    random = np.random.default_rng(seed)
    noise = np.convolve(random.normal(0, 6000, frames * 160), [0.25, 0.5, 0.25], "same")
    return (noise * (np.arange(len(noise)) % RATE < 0.7 * RATE)).clip(-30000, 30000).astype("<i2")


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one.astype(float), other.astype(float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))


def lag(recorded: np.ndarray, truth: np.ndarray) -> int:
    """Samples by which the recording is late."""
    size = 2 * len(truth)
    product = np.fft.irfft(np.fft.rfft(recorded.astype(float), size) * np.fft.rfft(truth.astype(float), size).conj())
    peak = int(np.argmax(product))
    return peak - size if peak > size // 2 else peak


@pytest.mark.parametrize("minutes", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_both_sides_are_what_was_said_and_heard(listener, stream_socket, link_socket, tmp_path, minutes):
    frames = minutes * 60 * 50
    bridge, done = Bridge(RATE, BridgeLimits(), listener), []
    recorder = CallRecorder("s1", str(tmp_path), "flac", RATE, 0.0, done.append)
    bridge.record(recorder)
    attach_stream(bridge, stream_socket)
    bridge.attach_link(link_socket, START, 0.0)
    said, spoken, jitter = speech(1, frames), speech(2, frames), np.random.default_rng(3).uniform(0, 0.019, frames)
    wire, played = g711.mulaw_encode(said).tobytes(), Playout(RATE, 1)
    for n in range(frames):
        now = n * 0.02
        bridge.stream_received(media(wire[n * 160 : n * 160 + 160]), True, now + jitter[n])
        now += 0.0195
        if n % 50 == 5:  # a second of speech at once; now and then the caller interrupts it
            bridge.link_received(spoken[(n - 5) * 160 : (n + 45) * 160].tobytes(), False, now)
        if n % 350 == 30:
            bridge.link_received(b'{"type":"clear"}', True, now)
        bridge.tick(now)
        for message in map(json.loads, stream_socket.sent):
            if message["event"] == "media":
                played.play(now, base64.b64decode(message["media"]["payload"]))
            elif message["event"] == "clear":
                played.clear(now)
        stream_socket.sent.clear()
        link_socket.sent.clear()
        if n % 15 == 0:
            recorder.advance()
    now = frames * 0.02
    bridge.detach_stream(now)
    played.clear(now)
    recorder.finish(now)
    recorder.advance()
    list(recorder.complete())
    stereo = soundfile.read(done[0], dtype="int16")[0]
    heard = np.zeros(frames * 160, np.int16)
    for piece in played.heard:
        at = round(piece.start * RATE)
        heard[at : at + len(piece.payload)] = g711.mulaw_decode(piece.payload)[: len(heard) - at]
    assert len(stereo) == frames * 160
    assert likeness(stereo[:, 1], heard) >= 0.99
    for minute in range(minutes):
        part = slice(minute * 60 * RATE, (minute + 1) * 60 * RATE)
        late = lag(stereo[part, 0], said[part])
        assert abs(late) <= 0.02 * RATE and abs(lag(stereo[part, 1], heard[part])) <= 0.02 * RATE
        assert likeness(np.roll(stereo[part, 0], -late), said[part]) >= 0.99


@pytest.mark.parametrize("first", ["recorder", "stream"])
def test_a_bot_that_comes_behind_the_stream_is_recorded(listener, stream_socket, link_socket, tmp_path, first):
    """A caller on hold gets a bot of another protocol than expected: the bridge has the stream before the recording."""
    bridge, done = Bridge(2 * RATE, BridgeLimits(), listener), []
    recorder = CallRecorder("s1", str(tmp_path), "flac", 2 * RATE, 0.0, done.append)
    for what in (first, "stream" if first == "recorder" else "recorder"):
        if what == "recorder":
            bridge.record(recorder)
        else:
            attach_stream(bridge, stream_socket)
    bridge.attach_link(link_socket, START, 0.0)
    said = speech(1, 50)
    for n in range(50):
        bridge.stream_received(media(g711.mulaw_encode(said[n * 160 : n * 160 + 160]).tobytes()), True, n * 0.02)
        bridge.link_received(b"\x00\x20" * 320, False, n * 0.02)
    recorder.finish(1.0)
    recorder.advance()
    list(recorder.complete())
    stereo, rate = soundfile.read(done[0], dtype="int16")
    assert rate == RATE, "the stream's, though the bot has twice that"
    assert likeness(stereo[:, 0], said) >= 0.99 and stereo[1000:7000, 1].min() > 8000
