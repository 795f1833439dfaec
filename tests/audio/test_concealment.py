"""What stands for lost audio: of the right length always, like what was beside it, and not for long."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.concealment import FADE_MS, Concealment
from gateway.audio.format import AudioFormat
from gateway.audio.transcoder import Transcoder

FORMATS = [
    AudioFormat("mulaw", 8_000),
    AudioFormat("alaw", 8_000),
    AudioFormat("l16", 8_000),
    AudioFormat("l16", 16_000),
    AudioFormat("l16", 22_050),
    AudioFormat("l16", 48_000),
]
every_format = pytest.mark.parametrize("wire", FORMATS, ids=lambda wire: f"{wire.encoding}-{wire.sample_rate}")

Samples = npt.NDArray[np.float64]


def linear(wire: AudioFormat) -> AudioFormat:
    return AudioFormat("l16", wire.sample_rate)


def written(wire: AudioFormat, samples: Samples) -> bytes:
    pcm = np.rint(samples).clip(-32_768, 32_767).astype("<i2")
    return Transcoder(linear(wire), wire).feed(pcm.tobytes())


def read(wire: AudioFormat, data: bytes) -> Samples:
    return np.frombuffer(Transcoder(wire, linear(wire)).feed(data), "<i2").astype(float)


def seconds(wire: AudioFormat, start_ms: int, end_ms: int) -> Samples:
    """When each sample is, from one millisecond to another."""
    return np.arange(wire.sample_rate * start_ms // 1000, wire.sample_rate * end_ms // 1000) / wire.sample_rate


def vowel(wire: AudioFormat, start_ms: int, end_ms: int) -> Samples:
    """A voice of 125 Hz that does not move, from one millisecond to another."""
    t = seconds(wire, start_ms, end_ms)
    return sum(6_000 / n * np.sin(2 * np.pi * 125 * n * t + n * n) for n in range(1, 12))


def after(wire: AudioFormat, data: bytes) -> Concealment:
    """One that has heard this, in payloads of 20 ms."""
    concealment, size = Concealment(wire), wire.bytes_for_ms(20)
    for at in range(0, len(data), size):
        concealment.heard(data[at : at + size])
    return concealment


def gap(wire: AudioFormat, ms: int, before: Samples, behind: Samples) -> Samples:
    """What stands for these milliseconds."""
    return read(wire, after(wire, written(wire, before)).conceal(wire.bytes_for_ms(ms), 0, written(wire, behind)))


@every_format
@pytest.mark.parametrize("ms", [10, 20])
def test_a_lost_vowel_goes_on(wire: AudioFormat, ms: int) -> None:
    heard = gap(wire, ms, vowel(wire, 0, 100), vowel(wire, 100 + ms, 120 + ms))
    said = vowel(wire, 100, 100 + ms)[: heard.size]
    assert np.corrcoef(heard, said)[0, 1] > 0.97
    assert heard.std() > 0.6 * said.std()


@every_format
def test_it_is_louder_toward_the_voice_that_is_left(wire: AudioFormat) -> None:
    voice, nothing = vowel(wire, 0, 100), np.zeros(wire.sample_rate // 10)
    ends, begins = gap(wire, 20, voice, nothing), gap(wire, 20, nothing, voice)
    half = ends.size // 2
    assert ends[:half].std() > 2 * ends[half:].std() > 0
    assert begins[half:].std() > 2 * begins[:half].std() > 0


@every_format
def test_a_gap_begins_and_ends_without_a_step(wire: AudioFormat) -> None:
    """In a tone that moves by 1,200 in each period, and by 300 at most from one sample to the next."""

    def rising(start_ms: int, end_ms: int) -> Samples:
        t = seconds(wire, start_ms, end_ms)
        return 3_000 * np.sin(2 * np.pi * 125 * t) + 150_000 * (t - 0.11)

    before, behind = rising(0, 100), rising(120, 140)
    heard = gap(wire, 20, before, behind)
    assert np.abs(np.diff([before[-1], *heard, behind[0]])).max() < 700  # nor is there one when the period repeats


@every_format
@pytest.mark.parametrize("ms", [10, 20, 30])
def test_a_long_gap_is_silent_60_ms_from_both_ends(wire: AudioFormat, ms: int) -> None:
    concealment, size = after(wire, written(wire, vowel(wire, 0, 100))), wire.bytes_for_ms(ms)
    behind, count = written(wire, vowel(wire, 0, 20)), 600 // ms
    made = []
    for more in range(count - 1, -1, -1):
        made.append(concealment.conceal(size, more * size, behind))
        concealment.heard(made[-1])
    assert {len(payload) for payload in made} == {size}
    whole, fade = b"".join(made), wire.bytes_for_ms(FADE_MS) + wire.bytes_per_sample
    middle = whole[fade:-fade]
    assert middle == wire.silence(len(middle))
    assert min(read(wire, whole[:size]).std(), read(wire, whole[-size:]).std()) > 1_000
    late = slice(wire.bytes_for_ms(50), wire.bytes_for_ms(FADE_MS))  # it has faded, and is not cut
    assert 0 < read(wire, whole[late]).std() < 500


@every_format
def test_the_parts_of_a_gap_are_those_of_the_whole(wire: AudioFormat) -> None:
    heard, behind = written(wire, vowel(wire, 0, 100)), written(wire, vowel(wire, 3, 23))
    whole, parts, size = after(wire, heard), after(wire, heard), wire.bytes_for_ms(20)
    made = b""
    for more in (2 * size, size, 0):
        made += parts.conceal(size, more, behind)
        parts.heard(made[-size:])
    assert made == whole.conceal(3 * size, 0, behind)


def test_a_second_gap_as_long_is_made_anew() -> None:
    wire = FORMATS[0]
    concealment, size = after(wire, written(wire, vowel(wire, 0, 100))), wire.bytes_for_ms(20)
    first = concealment.conceal(size, 0, b"")
    for _ in range(3):
        concealment.heard(wire.silence(size))
    assert first != wire.silence(size) == concealment.conceal(size, 0, b"")


@pytest.mark.parametrize("where", ["before", "after"])
def test_half_a_sample_spoils_no_gap(where: str) -> None:
    """A carrier of a package of its own may give one, and each later sample would be read from the middle of two."""
    wire = AudioFormat("l16", 16_000)
    heard, behind = written(wire, vowel(wire, 0, 100)), written(wire, vowel(wire, 120, 140))
    size = wire.bytes_for_ms(20)
    whole = after(wire, heard).conceal(size, 0, behind)
    if where == "before":
        concealment = after(wire, heard + b"\x7f")
        concealment.conceal(size, 0, behind)
    else:
        concealment = after(wire, heard)
        concealment.conceal(size, 0, behind + b"\x7f")
    for at in range(0, len(heard), size):
        concealment.heard(heard[at : at + size])
    assert concealment.conceal(size, 0, behind) == whole


@every_format
def test_silence_stays_silence(wire: AudioFormat) -> None:
    silence = wire.silence(wire.bytes_for_ms(20))
    assert after(wire, 5 * silence).conceal(len(silence), 0, silence) == silence


@every_format
@pytest.mark.parametrize("behind_ms", [0, 1])
def test_where_too_little_is_known_it_is_silence(wire: AudioFormat, behind_ms: int) -> None:
    silence, behind = wire.silence(wire.bytes_for_ms(20)), written(wire, vowel(wire, 0, behind_ms))
    assert Concealment(wire).conceal(len(silence), 0, behind) == silence


def test_it_does_not_wrap_at_full_scale() -> None:
    wire = AudioFormat("l16", 8_000)
    square = np.where((np.arange(800) - 800 + 54) // 27 % 2 == 0, 32_767.0, -32_768.0)
    square[-1] = 32_767  # a step of 65,535 to be taken out of what follows, which begins at the top
    assert gap(wire, 20, square, np.zeros(0))[:13].min() > 0


@given(
    wire=st.sampled_from(FORMATS),
    payloads=st.lists(
        st.tuples(st.booleans(), st.integers(1, 60) | st.integers(1, 5_000), st.integers(0, 300)), max_size=20
    ),
    seed=st.integers(0, 2**32),
)
def test_any_payloads_give_as_much(wire: AudioFormat, payloads: list[tuple[bool, int, int]], seed: int) -> None:
    random, concealment, width = np.random.default_rng(seed), Concealment(wire), wire.bytes_per_sample
    for lost, samples, behind in payloads:
        payload = random.bytes(samples * width)
        if lost:
            payload = concealment.conceal(len(payload), behind % 3 * len(payload), random.bytes(behind * width))
            assert type(payload) is bytes
            assert len(payload) == samples * width
        concealment.heard(payload)
