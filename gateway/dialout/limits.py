"""The limits of dial-out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DialoutLimits:
    """Seconds, unless said otherwise.

    allow, callers, cps, max_concurrent: `[dialout]` of the settings. They hold for all nodes together.
    """

    allow: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    cps: float = 1.0
    max_concurrent: int = 20
    registry_is_local: bool = False
    """The registry is this process's own: calls that wait when it ends would be lost, so they are reported."""
    queue_length: int = 100
    """Calls that may wait behind the rate."""
    queue_seconds: float = 60.0
    """A call that has waited for so long is reported, and not dialled: its requester has moved on."""
    ring: int = 60
    """Until a call counts as not answered."""
    ring_grace: float = 15.0
    """From then on, until a call of which nothing has been heard is given up: callbacks are late, carriers' own ring
    timeouts are longer than asked."""
    order_timeout: float = 10.0
    """For the carrier's answer to an order. Some answer only once a number abroad rings."""
    retry: float = 0.3
    """Before the one repetition of an order that was surely not accepted."""
    longest_retry: float = 2.0
    """A carrier that wants us to wait longer than this is not asked again: the one who asked us can do that."""
    lease: float = 15.0
    """What a node does for a call of the queue, another one goes on with after so long without news of it."""
    poll_ringing: float = 0.5
    """Between two looks at a call that rings, or at a queue in which something waits."""
    poll_answered: float = 3.0
    """Between two looks at a call that has been answered."""
    poll_empty_queue: float = 2.0
    """Between two looks at a queue in which nothing waits: another node may have died with calls in hand."""
    worker_wait: float = 0.05
    """Between two looks whether the bot's worker has started."""
