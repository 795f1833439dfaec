"""Media that come before `start`: order, not nonsense. All of it reaches the bot."""

from __future__ import annotations

import json

import pytest

from gateway.streams.handshake import MAX_UNREAD_BYTES
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


async def test_padded_media_before_start_are_bounded_in_bytes(gateway):
    """Their audio is what the serializer bounds; as they came they are kept for bots that read the carrier's wire."""
    carrier = await gateway.open(await gateway.stream_path())
    padded = {**numbered(1), "pad": "x" * 60_000}
    fit = MAX_UNREAD_BYTES // len(json.dumps(padded))
    for chunk in range(1, fit + 4):
        carrier.send({**padded, "media": numbered(chunk)["media"]})
    carrier.send(start())
    await gateway.started()
    [session] = gateway.sessions
    assert session.bridge.counts.dropped["early"] == 3
    assert sum(map(len, session.stream.early.messages)) <= MAX_UNREAD_BYTES


@pytest.mark.parametrize("path", ["/ws/twilio", "/ws"])
async def test_a_stranger_with_nothing_but_media_is_closed_in_time(gateway, path):
    gateway.limit(start_timeout=0.5)
    carrier = await gateway.open(path)
    for chunk in range(1, 600):
        carrier.send(numbered(chunk))
    assert await carrier.until_closed() == 1008
    assert gateway.node.rejected["stream", "no_start"] == 1
