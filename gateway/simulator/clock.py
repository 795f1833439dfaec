"""The simulator's clock: seconds, monotonic.

Not the loop's: uvloop's has whole milliseconds, taken once a turn, and an echo's delay is a few of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

now = time.monotonic

EARLY = 0.0005
"""What is due within this is due: uvloop rounds its timers to the millisecond, and may fire so much too early."""


def call_at(when: float, callback: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
    """Call back at `when` of this clock, in the running loop."""
    return asyncio.get_running_loop().call_later(max(0.0, when - now()), callback, *arguments)
