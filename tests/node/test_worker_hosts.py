"""Worker hosts at the door: what their coming and going means to the next call."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.errors import RegistryUnavailable
from gateway.node.worker_hosts import MAX_PENDING, WorkerHostConnection
from gateway.protocol import workers
from gateway.protocol.codes import CloseCode
from tests.admission.virtual import OurEnd
from tests.kit.node import PATIENCE, SERVICE
from tests.waiting import until


@pytest.fixture
async def host(gateway):
    """Connects a host and registers it; its end of the connection."""

    async def connect() -> OurEnd:
        door = WorkerHostConnection(gateway.node)
        end = OurEnd(door, lambda data: None, lambda code: None)
        door.opened(end)
        end.hear(workers.encode(workers.Register("h9", 1, SERVICE, "pcm", 2, (), (), "key")))
        async with asyncio.timeout(PATIENCE):
            while "h9" not in gateway.node.hosts:
                await asyncio.sleep(0.005)
        return end

    return connect


async def gone(gateway, end, code) -> None:
    end.lose(code)
    async with asyncio.timeout(PATIENCE):
        while "h9" in gateway.node.hosts:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("code", "suspected"), [(1006, {"h9"}), (1001, {"h9"}), (1008, {"h9"}), (1000, set())])
async def test_a_host_that_leaves_without_a_word_is_suspected(gateway, host, code, suspected):
    await gone(gateway, await host(), code)
    assert gateway.node.registry.suspected() == suspected


async def test_a_host_that_registers_again_is_trusted_at_once(gateway, host):
    await gone(gateway, await host(), 1006)
    back = await host()
    assert gateway.node.registry.suspected() == frozenset()
    back.lose(1000)


async def test_a_host_is_suspected_until_the_registry_knows_of_its_death(gateway, host):
    now = gateway.node.unix_time()
    gateway.node.registry.unix_time = lambda: now
    await gone(gateway, await host(), 1006)
    now += gateway.node.leases.host - 0.1
    assert gateway.node.registry.suspected() == {"h9"}
    now += 0.2
    assert gateway.node.registry.suspected() == frozenset()


async def test_a_host_whose_message_meets_a_bug_is_cut_off_and_may_come_again(gateway, host, monkeypatch):
    end = await host()

    async def beat(*_):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(gateway.memory, "beat", beat)
        for _ in range(2 * MAX_PENDING):
            end.hear(workers.encode(workers.Beat((), 0.0)))
            await asyncio.sleep(0)
        await until(lambda: not end.open)
    assert end.closed == CloseCode.INTERNAL_ERROR
    assert "h9" not in gateway.node.hosts
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert (line["host"], line["exc_info"]) == ("h9", True)
    assert gateway.node.registry.suspected() == {"h9"}
    back = await host()
    assert gateway.node.registry.suspected() == frozenset()
    back.lose(1000)


async def test_a_registry_that_is_away_costs_no_host_its_connection(gateway, host, monkeypatch):
    end = await host()
    told = []
    end._told = told.append

    async def beat(*_):
        raise RegistryUnavailable("away")

    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(gateway.memory, "beat", beat)
        end.hear(workers.encode(workers.Beat((), 0.0)))
        await until(lambda: any("away" in line["event"] for line in logs))
    assert end.closed is None
    end.hear(workers.encode(workers.Beat((), 0.0)))
    await until(lambda: told)
    end.lose(1000)


async def test_a_host_that_registers_while_the_registry_is_away_is_sent_off_and_may_come_again(gateway, host):
    """It would say it only once, and stay unknown for as long as this connection stands."""
    door = WorkerHostConnection(gateway.node)
    end = OurEnd(door, lambda data: None, lambda code: None)
    gateway.memory.down = True
    door.opened(end)
    end.hear(workers.encode(workers.Register("h9", 1, SERVICE, "pcm", 2, (), (), "key")))
    await until(lambda: not end.open)
    assert end.closed == CloseCode.GOING_AWAY
    assert "h9" not in gateway.node.hosts
    gateway.memory.down = False
    (await host()).lose(1000)


async def test_a_host_that_drains_while_the_registry_is_away_comes_again_to_say_so(gateway, host):
    end = await host()
    gateway.memory.down = True
    end.hear(workers.encode(workers.Drain()))
    await until(lambda: not end.open)
    assert end.closed == CloseCode.GOING_AWAY
    gateway.memory.down = False
    back = await host()
    back.hear(workers.encode(workers.Drain()))
    registry = gateway.memory
    await until(lambda: registry._hosts["h9"].draining)
    back.lose(1000)
