"""Worker hosts at the door: what their coming and going means to the next call."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.errors import RegistryUnavailable
from gateway.node.services import Service, Services
from gateway.node.worker_hosts import MAX_PENDING, WorkerHostConnection
from gateway.protocol import workers
from gateway.protocol.codes import CloseCode
from tests.admission.virtual import OurEnd
from tests.kit.node import PATIENCE, SERVICE
from tests.kit.waiting import until


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


async def test_a_host_that_registers_in_an_outage_is_sent_off_and_may_come_again(gateway, host):
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


async def test_a_host_that_drains_in_an_outage_comes_again_to_say_so(gateway, host):
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


# What a host with a key may not do.


class Stranger:
    """A host with a key of `[workers]`, at an address of its own."""

    def __init__(self, gateway, peer: str = "10.0.0.7", *, local: bool = False) -> None:
        self.connection = WorkerHostConnection(gateway.node, peer=peer, local=local)
        self.told: list[workers.ToHost | None] = []
        self.end = OurEnd(self.connection, lambda data: self.told.append(workers.decode_to_host(data)))
        self.connection.opened(self.end)

    async def says(self, message: workers.ToGateway) -> int | None:
        """What it is closed with, None if it is answered."""
        before = len(self.told)
        self.end.hear(workers.encode(message))
        await until(lambda: len(self.told) > before or not self.end.open)
        return self.end.closed


def register(name: str = "h9", *urls: str, epoch: int = 1, service: str = SERVICE) -> workers.Register:
    offered = tuple(workers.Worker(f"w{n}", url, "ready") for n, url in enumerate(urls))
    return workers.Register(name, epoch, service, "pcm", 2, offered, (), "key")


@pytest.mark.parametrize("url", ["unix:/run/docker.sock", "ws://127.0.0.1:9090/ws", "ws://169.254.169.254/ws"])
async def test_a_host_offers_no_worker_elsewhere_by_register_or_beat(gateway, url):
    host = Stranger(gateway)
    with capture_logs() as logs:
        assert await host.says(register("h9", url)) == CloseCode.POLICY_VIOLATION
    assert [line["reason"] for line in logs if line["event"] == "refused"] == ["worker_address"]
    assert "h9" not in gateway.memory._hosts
    host = Stranger(gateway)
    assert await host.says(register("h9", "ws://10.0.0.7:1/ws")) is None
    beat = workers.Beat((workers.Worker("w0", url, "ready"),), 0)
    assert await host.says(beat) == CloseCode.POLICY_VIOLATION
    assert [worker.url for worker in gateway.memory._hosts["h9"].workers.values()] == ["ws://10.0.0.7:1/ws"]


async def test_a_claim_says_which_address_was_checked(gateway):
    await gateway.memory.drop_host("h", 1)
    host = Stranger(gateway, "127.0.0.1")
    assert await host.says(register("h9", "ws://localhost:4711/ws")) is None
    claim = await gateway.node.registry.claim(SERVICE, "s1")
    assert (claim.worker.url, claim.worker.address) in [
        ("ws://localhost:4711/ws", "127.0.0.1"),
        ("ws://localhost:4711/ws", "::1"),
    ]
    host.end.lose(1000)


async def test_a_host_whose_name_is_not_known_yet_may_come_again(gateway):
    assert await Stranger(gateway).says(register("h9", "ws://no-such-host.invalid:1/ws")) == CloseCode.GOING_AWAY


async def test_a_local_host_offers_workers_on_unix_sockets(gateway):
    host = Stranger(gateway, "127.0.0.1", local=True)
    assert await host.says(register("local-support.acme-1", "unix:/run/w.sock")) is None
    host.end.lose(1000)


async def test_the_ids_of_local_hosts_are_for_local_hosts(gateway):
    local = Stranger(gateway, "127.0.0.1", local=True)
    assert await local.says(register("local-support.acme-1")) is None
    host = Stranger(gateway)
    assert await host.says(register("local-support.acme-1", epoch=2)) == CloseCode.POLICY_VIOLATION
    assert gateway.memory._hosts["local-support.acme-1"].host.epoch == 1
    local.end.lose(1000)


@pytest.mark.parametrize(
    "second",
    [
        register("h8"),
        register("h9", epoch=2),
        register("h9", service="sales.acme"),
    ],
)
async def test_one_connection_is_for_one_host_and_one_service(gateway, second):
    """Else it could register 10,000 hosts, or take another's name and with it the calls there."""
    gateway.node.services._by_host["sales.acme"] = Service("sales.acme")
    other, host = Stranger(gateway), Stranger(gateway)
    assert await other.says(register("h8", "ws://10.0.0.7:8/ws")) is None
    assert await host.says(register("h9")) is None
    known = dict(gateway.memory._hosts)
    with capture_logs() as logs:
        assert await host.says(second) == CloseCode.POLICY_VIOLATION
    assert [line["reason"] for line in logs if line["event"] == "refused"] == ["another_host"]
    assert gateway.memory._hosts == known
    assert gateway.node.hosts["h8"] is other.connection
    other.end.lose(1000)


async def test_a_host_that_was_forgotten_registers_again_on_its_connection(gateway):
    host = Stranger(gateway)
    assert await host.says(register("h9")) is None
    await gateway.memory.drop_host("h9", 1)
    assert await host.says(workers.Beat((), 0)) is None
    assert host.told[-1] == workers.Gone()
    assert await host.says(register("h9")) is None
    host.end.lose(1000)


@pytest.mark.parametrize(
    ("asked", "said", "taken"), [(None, "relay", True), ("relay", "relay", True), ("pcm", "relay", False)]
)
async def test_a_host_speaks_what_its_service_asks_for(gateway, service, asked, said, taken):
    gateway.node.services = Services([replace(service, protocol=asked)])
    door, closed = WorkerHostConnection(gateway.node), []
    end = OurEnd(door, lambda data: None, closed.append)
    door.opened(end)
    end.hear(workers.encode(workers.Register("h9", 1, SERVICE, said, 2, (), (), "key")))
    await until(lambda: closed or "h9" in gateway.node.hosts)
    assert ("h9" in gateway.node.hosts) == taken
    assert closed == ([] if taken else [CloseCode.POLICY_VIOLATION])
    end.lose(1000)
