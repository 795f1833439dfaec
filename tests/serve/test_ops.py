"""/metrics, /livez, /readyz, /lbz on an address of their own."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from gateway.errors import SettingsError
from gateway.metrics import CONTENT_TYPE
from gateway.node.node import Node
from gateway.node.services import Service, Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Host, Leases
from gateway.protocol.workers import Worker
from gateway.serve.listening import address, bind
from gateway.serve.ops import OpsServer, bind_ops, make_ops_app
from tests.kit.waiting import PATIENCE


class Away(MemoryRegistry):
    """A registry that does not answer."""

    async def slots(self, service):
        await asyncio.sleep(3600)


def make_node(registry: MemoryRegistry) -> Node:
    services = Services([Service("a.b", default=True), Service("c.d")])
    client = RegistryClient(registry, timeout=0.05)
    return Node("http://127.0.0.1:1", client, Signer((b"k" * 16,)), services, {})


@pytest.fixture
def node():
    return make_node(MemoryRegistry(Leases()))


async def get(node: Node, path: str, *, ready: bool = True) -> httpx.Response:
    transport = httpx.ASGITransport(make_ops_app(node, lambda: ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        return await client.get(path)


async def test_metrics_are_prometheus_text_with_the_pools(node):
    workers = (Worker("w1", "unix:/w1", "ready"), Worker("w2", "unix:/w2", "busy"))
    await node.registry.put_host(Host("h", 1, "a.b", "pcm", 20, workers))
    node.refuse("voice", "full")
    answer = await get(node, "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    lines = answer.text.splitlines()
    assert 'gateway_worker_slots{service_host="a.b",state="cap"} 20.0' in lines
    assert 'gateway_worker_slots{service_host="a.b",state="ready"} 1.0' in lines
    assert 'gateway_worker_slots{service_host="c.d",state="cap"} 0.0' in lines
    assert 'gateway_rejected_total{reason="full",where="voice"} 1.0' in lines


async def test_metrics_go_on_without_the_registry_but_for_its_numbers():
    node = make_node(Away(Leases()))
    node.refuse("voice", "registry_down")
    answer = await get(node, "/metrics")
    assert answer.status_code == 200
    assert "gateway_rejected_total{" in answer.text
    assert "gateway_worker_slots{" not in answer.text


async def test_a_bug_in_a_registry_is_not_hidden(node):
    async def slots(service):
        raise ZeroDivisionError

    node.registry.registry.slots = slots
    with pytest.raises(ZeroDivisionError):
        await get(node, "/metrics")


@pytest.mark.parametrize(
    ("path", "ready", "draining", "status", "text"),
    [
        ("/livez", False, False, 200, "alive"),
        ("/livez", True, True, 200, "alive"),
        ("/readyz", True, False, 200, "ready"),
        ("/readyz", False, False, 503, "not ready"),
        ("/readyz", True, True, 503, "draining"),
        ("/lbz", True, False, 200, "ok"),
        ("/lbz", False, False, 200, "ok"),
        ("/lbz", True, True, 404, "draining"),
        ("/", True, False, 404, "Not Found"),
        ("/status", True, False, 404, "Not Found"),
        ("/webhooks/twilio/voice", True, False, 404, "Not Found"),
    ],
)
async def test_health(node, path, ready, draining, status, text):
    node.draining = draining
    answer = await get(node, path, ready=ready)
    assert (answer.status_code, answer.text.strip()) == (status, text)


async def test_it_is_served_on_its_socket_until_it_is_stopped(node):
    sock = bind_ops("127.0.0.1:0")
    url = f"http://{address(sock)}"
    server = OpsServer(node, lambda: True, sock)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/readyz")).text == "ready\n"
        assert (await client.head(f"{url}/livez")).status_code == 200
        assert (await client.post(f"{url}/metrics")).status_code == 405
        await server.stop()
        with pytest.raises(httpx.TransportError):
            await client.get(f"{url}/livez")


async def test_stopping_does_not_wait_for_a_client_that_says_nothing(node):
    sock = bind_ops("127.0.0.1:0")
    server = OpsServer(node, lambda: True, sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET /metrics HTTP/1.1\r\n")
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        await server.stop()
        assert await reader.read() == b""
    writer.close()


# Binding.


@pytest.fixture
def taken():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def test_none_is_none():
    assert bind_ops("") is None


def test_an_address_that_is_taken_is_one_line_with_the_mend(taken):
    with pytest.raises(SettingsError) as raised:
        bind_ops(taken)
    assert str(raised.value) == (
        f"server.ops_bind: cannot listen on {taken}: Address already in use; "
        'name another "host:port", port 0 for any, or "" for none'
    )


def test_where_nobody_asked_for_it_any_port_will_do(taken):
    with bind_ops(taken, or_any=True) as sock:
        assert address(sock) != taken
        assert address(sock).startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 99999), ("no.such.host.invalid", 80), ("a" * 70, 80), ("203.0.113.1", 80), ("a..b", 1)],
)
def test_what_cannot_be_bound_is_an_error_of_the_setting(host, port):
    with pytest.raises(SettingsError, match="cannot listen on"):
        bind(host, port, setting="server.ops_bind")


def test_ipv6_is_written_in_brackets():
    try:
        sock = bind_ops("[::1]:0")
    except SettingsError:
        pytest.skip("this machine has no IPv6")
    with sock:
        assert address(sock).startswith("[::1]:")
