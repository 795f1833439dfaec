"""A call that is refused, or sent on at once, has a record that says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import RegistryUnavailable
from gateway.node.services import Fallback
from gateway.pool.facts import Facts
from gateway.records.row import join_all, record_of_row, row_of
from tests.kit.node import start
from tests.kit.waiting import until

NUMBER = "+15550123456"


class Noted:
    """Records that keep what they are told, as one row."""

    def __init__(self) -> None:
        self.rows = []

    def note(self, facts: Facts) -> None:
        self.rows.append(row_of(facts))

    @property
    def record(self):
        return record_of_row(join_all(self.rows))


@pytest.fixture
def noted(gateway):
    gateway.node.records = Noted()
    return gateway.node.records


@pytest.fixture
def service(service):
    return replace(service, when_full=Fallback("busy"), when_down=Fallback("forward", NUMBER))


async def test_a_call_that_finds_no_slot(gateway, noted):
    gateway.node.overloaded = True
    assert b"busy" in (await gateway.voice()).content
    record = noted.record
    assert (record.status, record.end_reason, record.streams) == ("ended", "busy", 0)
    assert (record.from_number, record.service_host) == ("+15550100001", "support.acme")


async def test_a_call_that_is_sent_on_lasts_until_its_carrier_says_otherwise(gateway, noted):
    gateway.node.dial_allowed = lambda number: number == NUMBER

    async def away(*_args, **_kwargs):
        raise RegistryUnavailable("for this test")

    gateway.node.registry.registry.claim = away
    assert NUMBER.encode() in (await gateway.voice()).content
    record = noted.record
    assert (record.status, record.end_reason, record.ended_at) == ("ending", "transferred", None)


async def test_a_call_that_gets_a_slot_at_its_second_webhook_goes_on(gateway, noted):
    gateway.node.overloaded = True
    await gateway.voice()
    gateway.node.overloaded = False
    assert b"<Stream" in (await gateway.voice()).content
    noted.note(Facts(session=noted.record.session_id, status="streaming", streams=1, node="n1"))
    assert noted.record.status == "answered"


async def test_a_running_call_whose_webhook_comes_again_has_not_ended(gateway, noted):
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    await until(lambda: session.facts.streams)
    gateway.node.overloaded = True
    await gateway.voice()
    noted.note(session.facts)
    assert carrier.code is None
    assert noted.record.status == "answered"


@pytest.mark.parametrize("comes", [True, False])
async def test_a_refusal_behind_an_answer_ends_a_call_that_has_no_stream(gateway, noted, comes):
    """The carrier has not waited for our first answer, or has: its stream may be on its way."""
    gateway.node.leases = replace(gateway.node.leases, reserved=0.2)
    path = await gateway.stream_path()
    gateway.node.overloaded = True
    assert b"busy" in (await gateway.voice()).content
    if not comes:
        await until(lambda: noted.rows, complain="its end is noted")
        assert (noted.record.status, noted.record.end_reason) == ("ended", "busy")
        return
    token_expired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, token_expired.set)  # behind the gateway's own timer
    carrier = await gateway.open(path)
    carrier.send(start())
    await gateway.started()
    [session] = gateway.sessions
    await token_expired.wait()
    await until(lambda: session.facts.streams)
    noted.note(session.facts)
    assert noted.record.status == "answered" and not any(row.ended for row in noted.rows)


async def test_a_running_call_asked_of_in_an_outage_has_not_ended(gateway, noted):
    await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    await until(lambda: session.facts.streams)
    gateway.memory.down = True
    await gateway.voice()
    gateway.memory.down = False
    assert not noted.rows
