"""Media that come before `start`: order, not nonsense. All of it reaches the bot."""

from __future__ import annotations

import pytest

from tests.kit.node import MEDIA, start

EARLY = 60
"""Messages of 20 ms: 1.2 s of audio."""
FRAME = 640
"""Bytes of 20 ms on the bot's link, 16 kHz in 16 bits."""


def numbered(chunk: int) -> dict:
    return {**MEDIA, "media": {**MEDIA["media"], "chunk": str(chunk)}}


@pytest.mark.parametrize("static", ["", "/ws/twilio?serviceHost=support.acme", "/ws?serviceHost=support.acme"])
async def test_sixty_messages_before_start_reach_the_bot(gateway, static):
    carrier = await gateway.open(static or await gateway.stream_path())
    for chunk in range(1, EARLY + 1):
        carrier.send(numbered(chunk))
    carrier.send(start())
    await gateway.started()
    await gateway.a_bot_hears((EARLY - 2) * FRAME)
    assert not gateway.node.rejected["stream", "unknown_carrier"]
    assert not gateway.node.rejected["stream", "early_media"]


@pytest.mark.parametrize("path", ["/ws/twilio", "/ws"])
async def test_a_stranger_with_nothing_but_media_is_closed_in_time(gateway, path):
    gateway.limit(start_timeout=0.5)
    carrier = await gateway.open(path)
    for chunk in range(1, 600):
        carrier.send(numbered(chunk))
    assert await carrier.until_closed() == 1008
    assert gateway.node.rejected["stream", "no_start"] == 1
