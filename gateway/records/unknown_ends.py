"""Ask the carrier for the end of a call whose gateway died: it alone knows, and `unknown_end` is not for good.

A call is asked of before it is closed, so that its record and `call.ended` are whole; one whose carrier does not answer
in time is closed all the same, and asked of a few times more. What was closed lately is found again at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog
from sqlalchemy import select, true

from gateway.carriers.orders import CallState
from gateway.records.database import READ_ONLY
from gateway.records.row import CallRow, close, join, presumed_over, session_done
from gateway.records.schema import calls
from gateway.records.upsert import read_row
from gateway.records.writer import RecordWriter

log = structlog.get_logger(__name__)

AskCarrier: TypeAlias = Callable[[str, str, str], Awaitable[CallState | None]]
"""Asks by carrier, account and call id, within seconds, and never raises. None: it cannot be asked, now or later."""


@dataclass(frozen=True, slots=True)
class AskLimits:
    """Seconds, unless said otherwise. Tests run it scaled down."""

    every: float = 1.0
    at_once: int = 4
    """Questions that are being asked."""
    max_questions: int = 1000
    """Calls that are remembered. More are closed without a question, and found again when there is room."""
    close_after: float = 15.0
    """A call is closed, and its end told, at the latest so long after it could have been."""
    pauses: tuple[float, ...] = (2.0, 5.0, 60.0, 600.0, 3600.0)
    """Between two questions; after the last one a call is not asked of again."""
    search_every: float = 300.0
    ask_within: float = 86400.0
    """What was closed longer ago is not asked of. Carriers keep calls for months, so this bounds our work only."""


@dataclass(slots=True)
class _Question:
    """About one call. since: when it was first looked for."""

    row: CallRow
    since: float
    due: float
    closed: bool
    tries: int = 0
    state: CallState | None = None
    """The answer, once the call has ended by it."""
    done: bool = False
    """Nothing more is asked."""


class UnknownEnds:
    """See the module's docstring. ask: None where no carrier can be asked. Times are the database's."""

    def __init__(self, writer: RecordWriter, ask: AskCarrier | None, limits: AskLimits = AskLimits()) -> None:
        self._writer = writer
        self._ask_carrier = ask
        self._limits = limits
        self._questions: dict[str, _Question] = {}
        self._find_at = 0.0

    def carrier_end_or_wait(self, row: CallRow, at: float, now: float) -> CallRow | None:
        """Return what ends this row, which may be closed as of `at`; None: its carrier is being asked, look again."""
        question = self._questions.get(row.session_id)
        if question is None:
            # It cannot be asked of, or not now: closed without the carrier's word.
            if not self._can_ask(row) or len(self._questions) >= self._limits.max_questions:
                return close(row, at)
            self._remember(row, now, is_closed=False)
            return None
        # The answer is awaited, for as long as the end may be told late.
        if question.state is None and not question.done and now < question.since + self._limits.close_after:
            return None
        # Answered, or not in time: closed, with the carrier's word if there is one.
        question.closed = True
        end = close(row, at)
        return end if question.state is None else join(end, carrier_end(row, question.state, at, now))

    async def ask(self, now: float) -> None:
        """Ask what is due, a few at a time. Raises one of AWAY."""
        if self._ask_carrier is None:
            return
        self._forget(now)
        if now >= self._find_at:
            await self._find(now)
            self._find_at = now + self._limits.search_every
        due = [each for each in self._questions.values() if not each.done and each.due <= now]
        for begin in range(0, len(due), self._limits.at_once):
            await asyncio.gather(*(self._ask(each, now) for each in due[begin : begin + self._limits.at_once]))

    def _can_ask(self, row: CallRow) -> bool:
        return self._ask_carrier is not None and bool(row.carrier and row.call_id) and not session_done(row)

    def _remember(self, row: CallRow, now: float, *, is_closed: bool) -> None:
        slim = replace(row, body="")  # up to 128 KB each
        self._questions[row.session_id] = _Question(slim, since=now, due=now, closed=is_closed)

    def _forget(self, now: float) -> None:
        """Those that were answered soon, as their records say it; the others when they would not be found again."""
        for session, each in list(self._questions.items()):
            written = each.closed and each.state is not None
            if each.since < now - (self._limits.search_every if written else self._limits.ask_within):
                del self._questions[session]

    async def _find(self, now: float) -> None:
        """Remember what was closed lately without its carrier's word, by this process or an earlier one."""
        most = self._limits.max_questions
        since, room = now - self._limits.ask_within, most - len(self._questions)
        lately = (calls.c.final == true(), calls.c.updated >= since, calls.c.closed_at >= since)
        unknown = (calls.c.call_ended == 0.0, calls.c.carrier != "", calls.c.call_id != "")
        query = select(calls).where(*lately, *unknown).order_by(calls.c.updated.desc()).limit(most)
        async with self._writer.engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            found = [read_row(each) for each in (await connection.execute(query)).mappings()]
        new = [row for row in found if row.session_id not in self._questions and self._can_ask(row)]
        for row in new[: max(room, 0)]:
            self._remember(row, now, is_closed=True)

    async def _ask(self, question: _Question, now: float) -> None:
        assert self._ask_carrier is not None
        if question.closed and not await self._is_unknown(question.row.session_id):
            question.done = True
            return
        row = question.row
        state = await self._ask_carrier(row.carrier, row.account, row.call_id)
        if state is None:
            question.done = True
        elif state.status == "ended":
            question.state, question.done = state, True
            log.info("the carrier was asked how a call ended", session=row.session_id, outcome=state.outcome)
            if question.closed:
                self._writer.add(carrier_end(row, state, row.closed_at or row.updated, now))
        else:
            question.done = question.tries >= len(self._limits.pauses)
            question.due = now if question.done else now + self._limits.pauses[question.tries]
            question.tries += 1

    async def _is_unknown(self, session: str) -> bool:
        """True if no other has learned its end since, nor opened it again."""
        async with self._writer.engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            found = (await connection.execute(select(calls).where(calls.c.session_id == session))).mappings().first()
        row = read_row(found) if found is not None else CallRow()
        return presumed_over(row) and not row.call_ended and not session_done(row)


def carrier_end(row: CallRow, state: CallState, at: float, now: float) -> CallRow:
    """Return what a carrier's answer adds to a row. at: when the call was last heard of, for one that says no time."""
    ended = min(max(state.end(row.answered) or at, row.answered), now)
    return CallRow(session_id=row.session_id, outcome=state.outcome, call_ended=ended)
