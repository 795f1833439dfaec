"""What becomes of an event after an attempt to deliver it: delivered, tried again later, or dead. Pure.

After the first failure comes another attempt in seconds, as most outages are restarts; after the last, a day later,
only a person can help. A dead event is kept, and can be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass

DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 36000.0)
"""Seconds before each further attempt: 23.7 hours in all, as Standard Webhooks proposes."""
JITTER = 0.1
"""Share by which a delay is shorter or longer, so that what failed together is not repeated together."""
MOST_RETRY_AFTER = 3600.0
"""Seconds. A receiver may ask to be left alone for so long."""
GONE = 410


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered. status: of HTTP, 0 for no answer. error: why it counts as none, in words of ours.

    retry_after: seconds for which it asked to be left alone.
    """

    status: int
    error: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It is tried again. delay: seconds until then."""

    delay: float
    error: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It is not tried again unless it is replayed."""

    error: str


Verdict = Delivered | Retry | Dead


def verdict(reply: Reply, attempts: int, jitter: float) -> Verdict:
    """Decide what becomes of an event.

    attempts: those made, with the one that got this reply. jitter: a random number from 0 to 1.
    """
    if 200 <= reply.status < 300:
        return Delivered()
    error = reply.error or _words(reply.status)
    if reply.status == GONE or attempts > len(DELAYS):
        return Dead(error)
    delay = DELAYS[max(attempts, 1) - 1] * (1 + JITTER * (2 * jitter - 1))
    return Retry(max(delay, min(reply.retry_after, MOST_RETRY_AFTER)), error)


def _words(status: int) -> str:
    if 300 <= status < 400:
        return f"status {status}: redirects are not followed"
    return f"status {status}"
