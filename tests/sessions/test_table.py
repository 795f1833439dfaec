"""What runs in a process: one answer for all who ask."""

from __future__ import annotations

from tests.kit.waiting import until


async def test_a_replaced_session_is_there_until_it_has_wrapped_up(gateway):
    """A drain waits for its recording and its last write."""
    await gateway.call()
    await gateway.started()
    sessions = gateway.sessions
    [older] = sessions
    newer = sessions.make(older.service, None, older.facts)
    sessions.serve(newer)
    assert [*sessions] == [older, newer] and len(sessions) == 2
    assert sessions.get(older.id) is sessions.running(older.id) is newer
    older.superseded()
    await until(lambda: [*sessions] == [newer])
    assert sessions.get(older.id) is newer
    newer.superseded()
    await until(lambda: not sessions)
