"""The dial queue: calls on their way to the carriers, in order and at a rate, over all nodes.

One small record in the registry, changed in one step by `Registry.change`. An entry is a call:

    state    | means                                         | if its node does not renew it for one lease:
    ---------+-----------------------------------------------+-------------------------------------------------
    asked    | its turn came at once; surely not sent        | late: it was not promised
    entering | goes behind the rate, its facts are not there | late: the same
    waiting  | behind the rate, and promised                 | (has no node)
    turn     | promised, its node prepares it; surely not    | waits again, in its old place
             | sent                                          |
    sent     | the carrier may have it: never sent again     | another node watches it, and reports it if need be
    placed   | the carrier has it, until it has ended        | the same
    late     | is not dialled any more: to be reported       | another node reports it

A call is promised once its requester has been told that it is queued, and its facts are written by then. One that is
not promised is never dialled by another node: its requester may have been told that it will not be.

Only `sent` follows `asked` and `turn`, and only for the node that has it: a node that was suspended meanwhile finds
that it lost it, so no call is dialled twice. Turns come at the rate of the generic cell rate algorithm (ITU-T I.371),
without bursts. Times are the registry's unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gateway.dialout.limits import DialoutLimits

State: TypeAlias = Literal["asked", "entering", "waiting", "turn", "sent", "placed", "late"]
_STATES = frozenset(get_args(State))
RETRY_AFTER = 1.0
"""Seconds after which a refused caller may ask again, at least."""


@dataclass(slots=True)
class Entry:
    """One call. node: who has it. until: the end of its lease. since: when it was entered.

    dial_options: what the node that dials it needs beside its facts, see `Job.dial_options`.
    """

    state: State
    node: str
    until: float
    since: float
    dial_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueueFull:
    """No place is left. retry_after: seconds."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A call that is this node's now. state: what it has come to, see above. lost: another node had it."""

    session: str
    state: State
    dial_options: dict[str, Any]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class MustWait:
    """The call must wait for its turn, and is to be promised. seconds: until the next turn."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NothingDue:
    """Nothing is to be done now. seconds: until there may be; None while no call waits."""

    seconds: float | None


class DialQueue:
    """See the module's docstring. text: as `write` wrote it; what cannot be read is an empty queue."""

    def __init__(self, text: str = "") -> None:
        self.next_at = 0.0
        self.entries: dict[str, Entry] = {}
        try:
            tree = orjson.loads(text) if text else {}
            self.next_at = float(tree.get("next", 0.0))
            for session, (state, node, until, since, dial_options) in tree.get("calls", {}).items():
                if state in _STATES and isinstance(dial_options, dict):
                    self.entries[session] = Entry(state, str(node), float(until), float(since), dial_options)
        except (ValueError, TypeError, AttributeError):
            self.next_at, self.entries = 0.0, {}

    def write(self) -> str:
        """Write it, "" if there is nothing in it that matters."""
        if not self.entries and not self.next_at:
            return ""
        calls = {session: [e.state, e.node, e.until, e.since, e.dial_options] for session, e in self.entries.items()}
        return orjson.dumps({"next": self.next_at, "calls": calls}).decode()

    def waiting(self) -> list[str]:
        """Return the calls that wait, the first first."""
        return [session for session, entry in self.entries.items() if entry.state == "waiting"]

    def running(self) -> int:
        """Count the calls that are dialled, ring or talk."""
        return sum(entry.state in ("asked", "turn", "sent", "placed") for entry in self.entries.values())

    def enter(
        self, session: str, node: str, dial_options: dict[str, Any], now: float, limits: DialoutLimits
    ) -> Taken | MustWait | QueueFull:
        """Enter a new call: its turn comes at once, or it must wait, or there is no place for it."""
        waits, ahead = sum(e.state in ("entering", "waiting") for e in self.entries.values()), self._ahead(now)
        if not waits and self._may_dial(now, limits):
            self.entries[session] = Entry("asked", node, now + limits.lease, now, dial_options)
            self._count_turn(now, limits)
            return Taken(session, "asked", dial_options)
        expected = ahead + waits / limits.cps
        if waits >= limits.queue_length or expected > limits.queue_seconds:
            return QueueFull(max(RETRY_AFTER, math.ceil(expected - limits.queue_seconds), math.ceil(1 / limits.cps)))
        self.entries[session] = Entry("entering", node, now + limits.lease, now, dial_options)
        return MustWait(ahead)

    def promise(self, session: str, node: str) -> bool:
        """Let a call wait for its turn, as its facts are there. False: it has been given up, or is over.

        It may be asked again where the first answer was lost: the call may have been dialled since.
        """
        entry = self.entries.get(session)
        if entry is None or entry.state == "late":
            return False
        if entry.state == "entering" and entry.node == node:
            entry.state, entry.node, entry.until = "waiting", "", 0.0
        return True

    def take(self, node: str, now: float, limits: DialoutLimits) -> Taken | NothingDue:
        """Take what is to be done next: what a dead node has left, what has waited too long, or the next turn."""
        for session, entry in self.entries.items():
            if entry.state == "waiting" or entry.until > now:
                continue
            if entry.state == "turn":  # surely not sent
                entry.state, entry.node = "waiting", ""
                continue
            if entry.state in ("asked", "entering"):
                entry.state = "late"
            entry.node, entry.until = node, now + limits.lease
            return Taken(session, entry.state, entry.dial_options, lost=True)
        waits = self.waiting()
        for session in waits:
            entry = self.entries[session]
            if now - entry.since > limits.queue_seconds:
                entry.state, entry.node, entry.until = "late", node, now + limits.lease
                return Taken(session, "late", entry.dial_options)
        if waits and self._may_dial(now, limits):
            entry = self.entries[waits[0]]
            entry.state, entry.node, entry.until = "turn", node, now + limits.lease
            self._count_turn(now, limits)
            return Taken(waits[0], "turn", entry.dial_options)
        return NothingDue(self._ahead(now) if waits else None)

    def send(self, session: str, node: str, now: float, limits: DialoutLimits) -> bool:
        """Note that the order is sent to the carrier now. False: it must not be, as this node has lost its turn."""
        return self._advance(session, node, ("asked", "turn"), "sent", now, limits)

    def place(self, session: str, node: str, now: float, limits: DialoutLimits) -> bool:
        """Note that the carrier has the call."""
        placed = self._advance(session, node, ("sent",), "placed", now, limits)
        if placed:
            self.entries[session].dial_options = {}  # not needed any more, and there may be many
        return placed

    def put_back(self, session: str, node: str) -> bool:
        """Let a call wait again, behind all others: nothing can be done for it now. False: it is not ours."""
        entry = self.entries.get(session)
        if entry is None or entry.node != node or entry.state != "turn":
            return False
        entry.state, entry.node, entry.until = "waiting", "", 0.0
        self.entries[session] = self.entries.pop(session)
        return True

    def keep(self, node: str, sessions: Iterable[str], now: float, limits: DialoutLimits) -> set[str]:
        """Renew the leases of this node's calls. Returns those that another node has now.

        One that is not there was lost with the registry's memory, and is entered again: as placed, whatever it had come
        to, as no other node dials that.
        """
        lost = set()
        for session in sessions:
            entry = self.entries.setdefault(session, Entry("placed", node, 0.0, now, {}))
            if entry.node != node:
                lost.add(session)
            else:
                entry.until = now + limits.lease
        return lost

    def leave(self, session: str) -> None:
        """Forget the call: it has ended, or was not placed."""
        self.entries.pop(session, None)

    def _advance(
        self, session: str, node: str, old: tuple[State, ...], new: State, now: float, limits: DialoutLimits
    ) -> bool:
        entry = self.entries.get(session)
        if entry is None or entry.node != node or entry.state not in old:
            return False
        entry.state, entry.until = new, now + limits.lease
        return True

    def _ahead(self, now: float) -> float:
        """Return the seconds until the next turn."""
        return max(0.0, self.next_at - now)

    def _may_dial(self, now: float, limits: DialoutLimits) -> bool:
        return self.next_at <= now and self.running() < limits.max_concurrent

    def _count_turn(self, now: float, limits: DialoutLimits) -> None:
        """Set when the next turn is, as one is taken now."""
        self.next_at = max(self.next_at, now) + 1 / limits.cps
