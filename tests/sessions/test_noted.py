"""What a session learns is noted for its record, whether the registry answers or not."""

from __future__ import annotations

from gateway.pool.facts import Facts
from gateway.records.row import join_all, record_of_row, row_of
from tests.kit.waiting import until


async def test_a_call_whose_registry_goes_away_still_has_its_end(gateway):
    rows = []

    class Noted:
        def note(self, facts: Facts) -> None:
            rows.append(row_of(facts))

    carrier = await gateway.call()
    await gateway.started()
    gateway.node.records = Noted()
    gateway.memory.down = True
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    record = await until(lambda: rows and record_of_row(join_all(rows)))
    assert (record.status, record.end_reason, record.streams) == ("ending", "caller_hangup", 1)
    assert (record.attempts, record.cold, record.hold_ms) == (1, False, 0)
    assert record.bot_start_ms is not None and record.answered_at is not None
    gateway.memory.down = False
