"""Media that a carrier numbered and lost are silence of the same length, on every carrier."""

from __future__ import annotations

import pytest

from serializers.base import Media, Silence
from serializers.lost_media import MAX_CHUNKS, MAX_LATE
from tests.serializers.support import CARRIERS, SERIALIZERS, STARTS, media, message, opened, payloads

every_carrier = pytest.mark.parametrize("carrier", CARRIERS)
FRAME = b"\x01\x02" * 80
QUIET = {"twilio": b"\xff" * 160, "telnyx": b"\xff" * 160, "plivo": b"\xff" * 160, "exotel": bytes(160)}


def sent(serializer, numbers, write=str):
    """The events of media of these numbers, 20 ms apart, and of the time after them."""
    events, now = [], 0.0
    for number in numbers:
        now += 0.02
        events += serializer.decode(media(FRAME, chunk=write(number)), now=now)
    return [*events, *serializer.tick(now + 1)]


@every_carrier
@pytest.mark.parametrize("write", [str, int])
def test_twenty_five_chunks_that_are_missing_are_half_a_second_of_silence(carrier, write):
    heard = sent(opened(carrier), [1, 2, 3, *range(29, 36)], write)
    assert [event.payload for event in heard if isinstance(event, Media)] == (
        [FRAME] * 3 + [QUIET[carrier]] * 25 + [FRAME] * 7
    )
    assert sum(isinstance(event, Silence) for event in heard) == 25


@every_carrier
def test_silence_says_how_much_more_follows_and_what_came_after_it(carrier):
    serializer, behind = opened(carrier), b"\x03\x04" * 80
    sent(serializer, [1, 2, 3])
    events = [*serializer.decode(media(behind, chunk="6"), now=1.0), *serializer.tick(2.0)]
    assert events == [
        Silence(QUIET[carrier], more=160, after=behind),
        Silence(QUIET[carrier], more=0, after=behind),
        Media(behind),
    ]


@every_carrier
def test_nothing_is_missing_before_the_first(carrier):
    assert payloads(sent(opened(carrier), range(7, 20))) == [FRAME] * 13


@every_carrier
def test_a_numbering_that_jumps_far_or_back_brings_no_silence(carrier):
    far = [1, 2, 3, *range(4 + MAX_CHUNKS + 1, 4 + MAX_CHUNKS + 9)]
    back = [*range(1000, 1003), *range(1, 9)]
    for numbers in (far, back):
        assert not any(isinstance(event, Silence) for event in sent(opened(carrier), numbers))


@every_carrier
@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "9" * 5000, None, True, [], {}, 1.5, -1, 2**63])
def test_what_is_no_number_is_heard(carrier, number):
    serializer = opened(carrier)
    events = [*serializer.decode(media(FRAME, chunk=number)), *serializer.decode(media(FRAME, chunk=number))]
    assert FRAME in payloads(events)
    assert not any(isinstance(event, Silence) for event in events)


@pytest.mark.parametrize("carrier", [name for name in CARRIERS if name != "telnyx"])  # which puts them in order
def test_media_twice_or_late_are_heard_and_move_nothing(carrier):
    numbers = [*range(1, MAX_LATE), MAX_LATE - 1, 3, MAX_LATE, MAX_LATE + 1]
    events = sent(opened(carrier), numbers)
    assert payloads(events) == [FRAME] * len(numbers)


@every_carrier
def test_silence_is_no_longer_than_what_was_heard_and_five_seconds(carrier):
    events = sent(opened(carrier), range(0, 500 * 200, 200))
    silence = sum(len(event.payload) for event in events if isinstance(event, Silence))
    rate = 16000 if carrier == "exotel" else 8000
    assert silence <= 500 * len(FRAME) + 5 * rate


@every_carrier
def test_media_lost_before_start_are_silence_too(carrier):
    serializer = SERIALIZERS[carrier]()
    for number in (1, 2, 5):
        serializer.decode(media(FRAME, chunk=number))
    events = [*serializer.decode(message(STARTS[carrier])), *serializer.tick(1.0)]
    assert payloads(events) == [FRAME, FRAME, QUIET[carrier], QUIET[carrier], FRAME]
