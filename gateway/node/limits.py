"""The limits of calls in one process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds, unless said otherwise."""

    outage_grace: float = 5.0
    """A registry that is away is asked again for this long on behalf of a caller who was answered: one that restarts is
    back within seconds. Who has only rung gets `when_down` at once."""
    start_timeout: float = 5.0
    """A stream that has not sent `start` by then is closed, 1008."""
    bad_before_start: int = 5
    """As many unintelligible messages in a row before `start`, and the stream is closed, 1003."""
    reattach_timeout: float = 10.0
    """A bot whose caller's stream broke waits this long for the carrier to come back."""
    link_timeout: float = 1.0
    """A worker answers the upgrade within this, or the next one is claimed."""
    reconnect_after: float = 0.3
    """A link that breaks is opened once more after this: the worker may live."""
    connect_tries: int = 3
    """Workers that are tried for one caller: if three do not answer, the fault is not theirs."""
    connect_all: float = 3.0
    """All those tries together take this long at most: the caller hears nothing meanwhile."""
    worker_start: float = 10.0
    """A host that had no ready worker starts one; the caller's audio waits this long for it."""
    max_worker_starts: int = 3
    """Worker starts over the whole life of a session: a call that kills its bots is not given one after another."""
    hand_over: float = 2.0
    """A call that another node is to go on with is given away in a pause of the bot's, at the latest after this."""
    terminal_status: float = 5.0
    """A carrier that has not said how a call ended is asked so long after the stream's end: callbacks take a second."""
    dial_rings: float = 120.0
    """Longest ringing of a transfer: after this an unanswered call is back with its bot."""
    order_timeout: float = 2.0
    """Another node takes an order for a call of its within this, or it is withdrawn: twenty looks into its mailbox."""
    rest_timeout: float = 1.5
    """The carrier's REST API has this long to hang up. After that, the Hangup in the carrier's XML does."""
    drain_notice: float = 3.0
    """While draining, new calls are still taken for so long, where there are other nodes: several checks of a balancer,
    which prefers the node that empties until it has noticed."""
    streams: int = 2000
    """WebSockets of carriers and of clients (`/ws-client`) at once, in this process."""
