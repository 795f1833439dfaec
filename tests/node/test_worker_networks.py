"""Where workers of a host with a key may be: at its own address, or in the networks of the settings, by no trick."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import pytest

from gateway.node import worker_networks
from gateway.node.worker_networks import MAX_NAMES, RESOLVING_AT_ONCE, HostPlace, Misplaced, WorkerNetworks

PEER = "10.0.0.7"


def place(*networks: str, peer: str = PEER, local: bool = False) -> HostPlace:
    return HostPlace(WorkerNetworks([ip_network(one) for one in networks]), peer, local)


async def address(place: HostPlace, url: str) -> str | None:
    """Where the gateway would connect to, None where it would not."""
    found = await place.locate([url])
    return None if isinstance(found, Misplaced) else found[url]


@pytest.mark.parametrize(
    ("peer", "url", "dialled"),
    [
        (PEER, "ws://10.0.0.7:4711/ws", PEER),
        (PEER, "wss://10.0.0.7/ws", PEER),
        (PEER, "ws://[::ffff:10.0.0.7]:4711/ws", PEER),
        ("::ffff:10.0.0.7", "ws://10.0.0.7:4711/ws", PEER),
        ("fd00::7", "ws://[fd00:0::7]:4711/ws", "fd00::7"),
        ("127.0.0.1", "ws://127.0.0.1:4711/ws", "127.0.0.1"),
        ("127.0.0.1", "ws://[::1]:4711/ws", "::1"),
        ("127.0.0.1", "ws://127.0.0.2:4711/ws", "127.0.0.2"),
        ("127.0.0.1", "ws://2130706433:4711/ws", "127.0.0.1"),  # as inet_aton has it
        (PEER, "", ""),  # a worker that is still starting
        (PEER, "ws://10.0.0.8:4711/ws", None),
        (PEER, "ws://127.0.0.1:9090/ws", None),
        (PEER, "ws://localhost:9090/ws", None),
        (PEER, "ws://0:9090/ws", None),
        (PEER, "ws://0x7f.1:9090/ws", None),
        (PEER, "ws://2130706433:9090/ws", None),
        (PEER, "ws://[::ffff:127.0.0.1]:9090/ws", None),
        (PEER, "ws://[::]:9090/ws", None),
        (PEER, "ws://169.254.169.254/ws", None),
        (PEER, "ws://[10.0.0.7]:4711/ws", None),
        (PEER, "ws://[fe80::1%eth0]:4711/ws", None),
        (PEER, "ws://a..b:4711/ws", None),
        (PEER, f"ws://{'a' * 64}:4711/ws", None),
        ("127.0.0.1", "ws://10.0.0.7:4711/ws", None),
        ("", "ws://10.0.0.7:4711/ws", None),
        ("", "ws://127.0.0.1:4711/ws", None),
    ],
)
async def test_by_default_workers_are_where_their_host_connects_from(peer, url, dialled):
    assert await address(place(peer=peer), url) == dialled


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("ws://10.20.1.2:4711/ws", "10.20.1.2"),
        ("ws://[fd00::5]:4711/ws", "fd00::5"),
        ("ws://192.0.2.7:4711/ws", "192.0.2.7"),
        ("ws://[::ffff:10.20.1.2]:4711/ws", "10.20.1.2"),
        ("ws://10.0.0.7:4711/ws", None),  # where it connects from
        ("ws://192.0.2.8:4711/ws", None),
        ("ws://127.0.0.1:9090/ws", None),
    ],
)
async def test_networks_of_the_settings_alone_decide(url, dialled):
    assert await address(place("10.20.0.0/16", "fd00::/8", "192.0.2.7"), url) == dialled


async def test_a_refusal_names_the_setting_in_what_a_close_frame_takes():
    for name in ("10.0.0.8", "fe80::1234:5678:9abc:def0%a-long-interface-name", "h" * 63 + "." + "h" * 63):
        found = await place().locate([f"ws://{f'[{name}]' if ':' in name else name}:4711/ws"])
        assert isinstance(found, Misplaced)
        assert len(found.reason.encode()) <= 123
    found = await place().locate(["ws://10.0.0.8:4711/ws"])
    assert found == Misplaced(
        "--advertise 10.0.0.8 is not in the gateway's [workers] networks: add it there", "10.0.0.8"
    )


async def test_unix_sockets_are_for_hosts_that_the_gateway_has_started():
    url = "unix:/run/docker.sock"
    assert await address(place(local=True), url) == ""
    assert await address(place(), url) is None
    assert await address(place("0.0.0.0/0", "::/0", peer="127.0.0.1"), url) is None


class Names:
    """A name server that another answer can be had of each time."""

    def __init__(self, monkeypatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self.answers = list(answers)
        self.slow: asyncio.Event | None = None
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, name, port, **_):
        self.asked.append(name)
        if self.slow is not None:
            await self.slow.wait()
        if not self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in self.answers.pop(0)]


async def test_a_name_is_resolved_once_and_the_address_checked_is_dialled(monkeypatch):
    """Else a name server could say 10.0.0.7 to the check and 127.0.0.1 to the call (DNS rebinding)."""
    names, host = Names(monkeypatch, [PEER], ["127.0.0.1"]), place()
    for port in range(1, 5):
        assert await address(host, f"ws://worker-1:{port}/ws") == PEER
        assert await address(host, f"wss://WORKER-1:{port}/ws") == PEER
    assert names.asked == ["worker-1"]


async def test_of_several_addresses_one_that_is_allowed_is_dialled(monkeypatch):
    Names(monkeypatch, ["127.0.0.1", "10.0.0.8", PEER], ["127.0.0.1", "10.0.0.8"])
    assert await address(place(), "ws://worker-1:1/ws") == PEER
    assert await address(place(), "ws://worker-1:1/ws") is None


async def test_a_name_that_cannot_be_resolved_now_may_be_another_time(monkeypatch):
    names, host = Names(monkeypatch), place()
    found = await host.locate(["ws://worker-1:1/ws"])
    assert found == Misplaced("the gateway cannot resolve --advertise worker-1", permanent=False)
    names.answers.append([PEER])
    assert await address(host, "ws://worker-1:1/ws") == PEER


async def test_a_host_has_few_names(monkeypatch):
    names, host = Names(monkeypatch, *[[PEER]] * 100), place()
    found = await host.locate([f"ws://worker-{n}:1/ws" for n in range(100)])
    assert isinstance(found, Misplaced)
    assert len(names.asked) == MAX_NAMES


async def test_names_that_are_never_resolved_take_few_threads(monkeypatch):
    monkeypatch.setattr(worker_networks, "RESOLVE_TIMEOUT", 0.05)
    names, networks = Names(monkeypatch, *[[PEER]] * 100), WorkerNetworks()
    names.slow = asyncio.Event()
    hosts = [HostPlace(networks, PEER, local=False) for _ in range(20)]
    found = await asyncio.gather(*(host.locate(["ws://worker-1:1/ws"]) for host in hosts))
    assert {one.permanent for one in found} == {False}
    assert len(names.asked) == RESOLVING_AT_ONCE, "given up, but their threads are still taken"
    names.slow.set()
    await asyncio.sleep(0)
    assert await address(hosts[0], "ws://worker-1:1/ws") == PEER


async def test_workers_of_the_last_message_are_not_looked_at_again(monkeypatch):
    host = place()
    urls = [f"ws://10.0.0.7:{port}/ws" for port in range(1, 4000)]
    await host.locate(urls)
    monkeypatch.setattr(worker_networks, "urlsplit", None)
    assert await host.locate(reversed(urls)) == dict.fromkeys(urls, PEER)
    await host.locate([])
    assert not host._located, "it remembers more than the last message has"
