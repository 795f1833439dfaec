"""Media that Telnyx numbered and lost, through its serializer and the bridge, to the bot's ear and the recording."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from gateway.audio.format import AudioFormat
from gateway.audio.g711 import Pcm, mulaw_encode
from gateway.audio.transcoder import Transcoder
from gateway.media.bridge import Bridge
from gateway.media.types import BridgeLimits, Stream
from gateway.protocol import pcm
from serializers.base import Media
from tests.kit.sound import narrow_pesq, require_pesq, voices
from tests.media.conftest import FakeSocket, Listener
from tests.serializers.support import SERIALIZERS, STARTS, media, message, opened

RATE, FRAME = 8_000, 160
LINK_START = pcm.Start("s1", "support.acme", "telnyx", 7, {"call_id": "v3:00"}, RATE)
SEEDS = range(4)


@dataclass
class Call:
    """What became of a caller's audio."""

    to_bot: bytes = b""
    recorded: list[bytes] = field(default_factory=list)
    came: list[bytes] = field(default_factory=list)
    """As the serializer has it, with silence for what was lost."""


def arrivals(count: int, *, lost: float, late: float = 0.0, seed: int) -> list[tuple[float, int]]:
    """When each chunk comes, in seconds, and its number, from 1; those that are lost left out, late ones by 40 ms."""
    random = np.random.default_rng(seed)
    gone, delayed = random.random(count) < lost, random.random(count) < late
    gone[:4] = gone[-1] = False
    return sorted((n * 0.02 + 0.04 * delayed[n], n + 1) for n in range(count) if not gone[n])


def call(speech: Pcm, chunks: list[tuple[float, int]]) -> Call:
    """Speech of whole frames, in chunks that arrive so."""
    wire, link, made = mulaw_encode(speech).tobytes(), FakeSocket(), Call()
    bridge, serializer, beside = Bridge(RATE, BridgeLimits(), Listener()), SERIALIZERS["telnyx"](), opened("telnyx")
    [start] = serializer.decode(message(STARTS["telnyx"]))
    bridge.attach_stream(Stream(FakeSocket(), serializer, start), 0.0)
    bridge.attach_link(link, LINK_START, 0.0)
    bridge.tap.said = lambda payload, now: made.recorded.append(payload)
    tick = 0.0
    for now, number in [*chunks, (chunks[-1][0] + 0.2, 0)]:
        while tick < now:
            tick += 0.02
            bridge.tick(tick)
            made.came += [event.payload for event in beside.tick(tick) if isinstance(event, Media)]
        if number:
            text = media(wire[(number - 1) * FRAME : number * FRAME], chunk=str(number))
            bridge.stream_received(text.encode(), True, now)
            made.came += [event.payload for event in beside.decode(text, now=now) if isinstance(event, Media)]
    made.to_bot = link.audio
    return made


def as_heard(payloads: list[bytes]) -> bytes:
    return Transcoder(AudioFormat("mulaw", RATE), AudioFormat("l16", RATE)).feed(b"".join(payloads))


def whole_frames(speech: Pcm) -> Pcm:
    return speech[: speech.size // FRAME * FRAME]


@pytest.mark.parametrize(("lost", "gain"), [(0.01, 0.2), (0.03, 0.4), (0.05, 0.6)])
def test_lost_speech_sounds_better_than_silence(lost: float, gain: float) -> None:
    """Measured: 0.25, 0.51 and 0.70 of PESQ, in the mean."""
    require_pesq()
    gains = []
    for voice, speech in enumerate(map(whole_frames, voices(RATE).values())):
        for seed in SEEDS:
            heard = call(speech, arrivals(speech.size // FRAME, lost=lost, seed=seed * 31 + voice))
            concealed, silent = (np.frombuffer(data, "<i2") for data in (heard.to_bot, as_heard(heard.came)))
            assert concealed.size == silent.size == speech.size
            gains.append(narrow_pesq(speech, concealed) - narrow_pesq(speech, silent))
    assert np.mean(gains) >= gain


def test_media_40_ms_late_are_not_lost() -> None:
    speech = whole_frames(voices(RATE)["de"])
    count = speech.size // FRAME
    heard = call(speech, arrivals(count, lost=0.0, late=0.05, seed=1))
    assert heard.to_bot == call(speech, arrivals(count, lost=0.0, seed=1)).to_bot
    assert heard.to_bot == as_heard([mulaw_encode(speech).tobytes()])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_recording_holds_silence_for_what_was_lost(seed: int) -> None:
    speech = whole_frames(voices(RATE)["de"])
    heard = call(speech, arrivals(speech.size // FRAME, lost=0.05, late=0.05, seed=seed))
    assert heard.recorded == heard.came
    assert b"\xff" * FRAME in heard.recorded
    assert len(heard.to_bot) == 2 * sum(map(len, heard.recorded))
    assert heard.to_bot != as_heard(heard.recorded)
