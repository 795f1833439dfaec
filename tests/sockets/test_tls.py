"""One TLS context for all that a process opens: to make one holds up the event loop."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from gateway.errors import LinkError
from gateway.node.probe import Probe
from gateway.sockets import connect
from gateway.sockets.tls import client_tls_context
from tests.kit.waiting import PATIENCE
from tests.sockets.test_sockets import Recorder


@pytest.fixture
def made(monkeypatch) -> list[ssl.SSLContext]:
    """The contexts that are made by reading the machine's authorities, from now on."""
    contexts, make = [], ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: contexts.append(make()) or contexts[-1])
    return contexts


@pytest.fixture
async def url():
    """Of a server that closes each connection as soon as it is opened."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Closing(), "127.0.0.1", 0)
    yield f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    server.close()


class Closing(asyncio.Protocol):
    def connection_made(self, transport) -> None:
        transport.close()


async def test_links_and_probes_read_no_authorities(url, made):
    client_tls_context()  # as `serve` does before the first call
    made.clear()
    with pytest.raises(LinkError):
        await connect(url, Recorder(), headers={}, timeout=PATIENCE)
    told: asyncio.Queue[int | None] = asyncio.Queue()
    probe = Probe(url, PATIENCE, told.put_nowait)
    probe.ask()
    assert await told.get() is None
    probe.close()
    assert made == []


def test_the_context_of_links_checks_whom_it_speaks_to():
    context = client_tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
