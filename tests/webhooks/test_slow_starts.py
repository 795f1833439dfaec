"""A caller whom no worker can serve in time is told so before they are answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.node.services import Fallback
from tests.kit.node import SERVICE
from tests.webhooks.wires import WIRES, ring


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


@pytest.fixture(params=["busy", "hold"])
def service(service, request):
    return replace(service, when_full=Fallback(request.param), max_hold=10.0)


async def take_workers_away(gateway) -> None:
    """Leave the host its capacity, and no worker that is ready."""
    [state] = gateway.memory._hosts.values()
    await gateway.memory.put_host(replace(state.host, workers=()))


class Host:
    """The connection of the worker host."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start_worker(self, session: str) -> None:
        self.asked.append(session)


async def test_a_caller_is_not_answered_for_a_worker_that_starts_too_slowly(gateway, carrier):
    gateway.node.start_seconds[SERVICE] = 15.0
    gateway.node.hosts["h"] = host = Host()
    await take_workers_away(gateway)
    assert await ring(gateway, carrier) == ""
    assert gateway.node.rejected["voice", "slow_start"] == 1
    assert (await gateway.memory.slots(SERVICE)).used == 0
    assert len(host.asked) == 1  # or no worker would ever be there, where none is kept warm


async def test_a_caller_is_answered_for_a_worker_that_starts_in_time(gateway, carrier):
    gateway.node.start_seconds[SERVICE] = 9.0
    await take_workers_away(gateway)
    assert await ring(gateway, carrier)


async def test_a_caller_is_answered_while_no_start_is_known(gateway, carrier):
    await take_workers_away(gateway)
    assert await ring(gateway, carrier)


async def test_a_ready_worker_serves_however_slowly_others_start(gateway, carrier):
    gateway.node.start_seconds[SERVICE] = 15.0
    assert await ring(gateway, carrier)
