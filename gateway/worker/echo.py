"""The built-in bot: says back what it hears."""

from __future__ import annotations

from gateway.worker import Audio, Call


async def bot(call: Call) -> None:
    """Play every Audio as it comes."""
    async for event in call:
        if isinstance(event, Audio):
            await call.play(event.pcm)
