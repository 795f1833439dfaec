"""The simulator's clock: seconds, monotonic.

Not the loop's: uvloop's has whole milliseconds, taken once a turn, and an echo's delay is a few of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

now = time.monotonic

EARLY = 0.0005
"""What is due within this is due: uvloop rounds its timers to the millisecond, and may fire so much too early."""


@contextlib.contextmanager
def undisturbed(*, collecting: bool) -> Iterator[None]:
    """Keep the garbage collector's pauses out of what is measured here: they would be taken for the gateway's.

    What is there at the beginning (all modules, 20 to 90 ms to look through) is not looked at again until the end.
    collecting: what is made meanwhile is; without, memory grows with the length of a call, by little.
    """
    was_enabled = gc.isenabled()
    was_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    if not collecting:
        gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        if not was_frozen:  # else by somebody around us, for longer than this
            gc.unfreeze()


def call_at(when: float, callback: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
    """Call back at `when` of this clock, in the running loop."""
    return asyncio.get_running_loop().call_later(max(0.0, when - now()), callback, *arguments)
