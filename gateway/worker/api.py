"""What a bot is written against: `Call` and its events.

    async def bot(call: Call) -> None:
        async for event in call:                # Audio | Dtmf | Mark | Status
            if isinstance(event, Audio):
                await call.play(event.pcm)

The thin asyncio side of `conversation`. One task reads the events; any task may speak.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Buffer as _Buffer
from collections.abc import Callable, Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.protocol import pcm as wire
from gateway.worker.conversation import Audio, Conversation, Dtmf, Event, Mark, Status
