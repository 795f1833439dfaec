"""Waiting for what should happen soon: the tests' one way to poll, and the one constant by which all bounds grow."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
Complaint = str | Callable[[], object] | None
"""What is said of something that never was, or says it then. None: the source of what was looked for."""

SCALE = float(os.environ.get("ACCEPTANCE_SCALE", "1"))
"""Every bound on a wait is a multiple of this: raise it on a slow machine."""
SECONDS = 20.0
"""Until something that should happen at once is taken for something that never does. Long: what comes costs no more for
it, and a machine that runs five tests on two cores stands still for seconds."""
PATIENCE = SECONDS * SCALE
"""The same, for what has a timeout of its own."""


async def until(find: Callable[[], T | Awaitable[T]], seconds: float = SECONDS, complain: Complaint = None) -> T:
    """What `find` finds, as soon as that is true; it may be a coroutine function. AssertionError if it never is, within
    `seconds` times SCALE.
    """
    __tracebackhide__ = True
    try:
        async with asyncio.timeout(seconds * SCALE) as bound:
            while True:
                began = time.monotonic()
                found = find()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_pause(began))
    except TimeoutError:
        if not bound.expired():  # what was looked at has timed out itself
            raise
    raise AssertionError(_never(find, seconds, complain))


def wait_for(find: Callable[[], T], seconds: float = SECONDS, complain: Complaint = None) -> T:
    """The same without an event loop, or in place of it."""
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds * SCALE
    while True:
        began = time.monotonic()
        if found := find():
            return found
        assert time.monotonic() < deadline, _never(find, seconds, complain)
        time.sleep(_pause(began))


def _pause(began: float) -> float:
    """Until the next look; those that are dear come seldom, as what is looked at needs the machine, too."""
    return max(0.005, 4 * (time.monotonic() - began))


def _never(find: Callable[[], object], seconds: float, complain: Complaint) -> str:
    if complain is None:
        complain = " ".join(inspect.getsource(find).split())
    return f"not within {seconds * SCALE:g} s: {complain() if callable(complain) else complain}"
