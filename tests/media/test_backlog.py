"""What waits for a bot: the newest audio, and the keys in their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.backlog import MAX_KEYS, CallerBacklog


def test_the_oldest_audio_goes_first():
    backlog = CallerBacklog(4)
    assert [backlog.add_audio(said) for said in (b"aa", b"bb", b"cc", b"dddd")] == [0, 0, 1, 2]
    assert list(backlog.take()) == [b"dddd"]
    assert list(backlog.take()) == []


def test_keys_stay_where_audio_goes():
    backlog = CallerBacklog(2)
    backlog.add_audio(b"aa")
    backlog.add_key("1")
    backlog.add_audio(b"bb")
    backlog.add_key("2")
    assert list(backlog.take()) == ["1", b"bb", "2"]


def test_a_lower_limit_is_for_what_waits_already():
    backlog = CallerBacklog(6)
    for said in (b"aa", b"bb", b"cc"):
        backlog.add_audio(said)
    assert backlog.limit(2) == 2
    assert list(backlog.take()) == [b"cc"]


def test_a_flood_of_keys_is_bounded():
    backlog = CallerBacklog(2)
    kept = [backlog.add_key(str(n)) for n in range(10 * MAX_KEYS)]
    assert (kept.count(True), kept.count(False)) == (MAX_KEYS, 9 * MAX_KEYS)
    assert list(backlog.take()) == [str(n) for n in range(MAX_KEYS)]


@given(st.lists(st.one_of(st.binary(max_size=9), st.sampled_from("0123456789")), max_size=60), st.integers(0, 40))
def test_what_is_kept_is_in_order_and_within_the_bound(items, most):
    backlog, dropped = CallerBacklog(most), 0
    for item in items:
        if isinstance(item, bytes):
            dropped += backlog.add_audio(item)
        else:
            backlog.add_key(item)
    kept = list(backlog.take())
    audio = [item for item in kept if isinstance(item, bytes)]
    said = [item for item in items if isinstance(item, bytes)]
    assert audio == said[len(said) - len(audio) :]
    assert dropped == len(said) - len(audio)
    assert sum(map(len, audio)) <= most
    pressed = [item for item in items if isinstance(item, str)]
    assert [item for item in kept if isinstance(item, str)] == pressed[:MAX_KEYS]
