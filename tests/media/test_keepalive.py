"""Is the other end still there? Time passed in."""

from __future__ import annotations

import pytest

from gateway.media.keepalive import LinkKeepalive, StreamKeepalive
from gateway.media.types import BridgeLimits


def seconds(first: float, last: float):
    """Every tick from first to last."""
    return [n * 0.02 for n in range(round(first * 50), round(last * 50) + 1)]


def test_a_carrier_is_asked_after_ten_silent_seconds_and_dead_five_later(stream_socket):
    keepalive = StreamKeepalive(stream_socket, BridgeLimits(), 0.0)
    assert not any(keepalive.tick(now) for now in seconds(0, 10))
    assert stream_socket.pings == 0
    assert not any(keepalive.tick(now) for now in seconds(10.02, 15))
    assert stream_socket.pings == 1
    assert [now for now in seconds(15.02, 60) if keepalive.tick(now)] == [pytest.approx(15.04)]


def test_a_carrier_that_answers_is_asked_again_ten_seconds_later(stream_socket):
    keepalive = StreamKeepalive(stream_socket, BridgeLimits(), 0.0)
    for now in seconds(0, 12):
        keepalive.tick(now)
    stream_socket.last_pong = 12.0
    assert not any(keepalive.tick(now) for now in seconds(12.02, 22))
    assert stream_socket.pings == 1
    keepalive.tick(22.1)
    assert stream_socket.pings == 2


def test_media_is_as_good_as_an_answer(stream_socket):
    keepalive = StreamKeepalive(stream_socket, BridgeLimits(), 0.0)
    for now in seconds(0, 14):
        keepalive.tick(now)
    keepalive.heard = 14.0
    assert not any(keepalive.tick(now) for now in seconds(14.02, 24))
    assert stream_socket.pings == 1


def test_a_carrier_that_comes_back_and_dies_again_is_told_again(stream_socket):
    keepalive = StreamKeepalive(stream_socket, BridgeLimits(), 0.0)
    assert any(keepalive.tick(now) for now in seconds(0, 20))
    keepalive.heard = 20.0
    assert not any(keepalive.tick(now) for now in seconds(20, 30))
    assert any(keepalive.tick(now) for now in seconds(30, 40))


def test_an_old_pong_is_no_answer(stream_socket):
    stream_socket.last_pong = 10.0
    keepalive = StreamKeepalive(stream_socket, BridgeLimits(), 0.0)
    assert any(keepalive.tick(now) for now in seconds(0, 16))


def test_a_link_is_asked_every_second_slow_after_five_and_dead_after_ten(link_socket):
    keepalive = LinkKeepalive(link_socket, BridgeLimits(), 0.0)
    assert not any(keepalive.tick(now) for now in seconds(0, 5))
    assert (link_socket.pings, keepalive.slow) == (5, False)
    assert not any(keepalive.tick(now) for now in seconds(5.02, 10))
    assert (link_socket.pings, keepalive.slow) == (10, True)
    assert keepalive.tick(10.02)


def test_a_link_that_answers_is_not_slow_any_more(link_socket):
    keepalive = LinkKeepalive(link_socket, BridgeLimits(), 0.0)
    keepalive.tick(6.0)
    assert keepalive.slow
    link_socket.last_pong = 6.1
    assert not keepalive.tick(6.2)
    assert not keepalive.slow


def test_a_link_counts_from_when_the_watch_began(link_socket):
    keepalive = LinkKeepalive(link_socket, BridgeLimits(), 25.0)
    assert not any(keepalive.tick(now) for now in seconds(25, 30))
    assert not keepalive.slow
    assert keepalive.tick(35.1)
