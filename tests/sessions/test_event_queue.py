"""The events that wait for a session: kept in order, bounded, and looked at where they stand."""

from __future__ import annotations

import asyncio

import structlog
from structlog.testing import capture_logs

from gateway.protocol.codes import EndReason
from gateway.sessions.event_queue import MAX_WAITING, EventQueue
from gateway.sessions.events import BotFinished, EndSession, Superseded
from tests.kit.waiting import PATIENCE

END, FINISHED = EndSession(EndReason.DRAINED), BotFinished()


async def test_it_looks_for_an_event_and_leaves_the_order():
    events = EventQueue(structlog.get_logger())
    events.post(FINISHED)
    events.post(END)
    assert events.holds(lambda event: event is END) and not events.holds(lambda event: isinstance(event, Superseded))
    soon = asyncio.get_running_loop().time() + PATIENCE
    assert [await events.next_by(soon) for _ in range(2)] == [FINISHED, END]
    assert await events.next_by(0.0) is None


async def test_what_is_too_much_is_dropped_and_said_once():
    with capture_logs() as logs:
        events = EventQueue(structlog.get_logger())
        for _ in range(MAX_WAITING + 2):
            events.post(FINISHED)
    assert events.qsize() == MAX_WAITING
    assert [line["first"] for line in logs] == ["BotFinished"]


async def test_a_closed_queue_gives_what_waits_and_keeps_no_more():
    events = EventQueue(structlog.get_logger())
    events.post(END)
    assert events.close() == [END]
    events.post(FINISHED)
    assert events.empty()
