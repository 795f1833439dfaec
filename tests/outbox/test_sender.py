"""One attempt at a real receiver that is well, slow, broken or hostile."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.outbox.sender import Sender
from gateway.outbox.verdict import Reply
from tests.outbox.receiver import OK, Receiver, receiving, status

HEADERS = {"webhook-id": "evt_1"}


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(seconds=0.5)
    yield sender
    await sender.close()


async def answered(sender: Sender, answer: bytes | None) -> Reply:
    async with receiving(Receiver(lambda _: answer, verify=False)) as receiver:
        return await sender.post(receiver.url, "{}", HEADERS)


async def test_posts_the_body_as_it_is(sender: Sender) -> None:
    async with receiving(Receiver(verify=False)) as receiver:
        assert await sender.post(receiver.url, '{"a":"é"}', HEADERS) == Reply(204)
    [got] = receiver.asked
    assert (got.path, got.body, got.id) == ("/hooks/calls", '{"a":"é"}'.encode(), "evt_1")
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (status(500), Reply(500)),
        (status(429, "retry-after: 30"), Reply(429, retry_after=30.0)),
        (status(503, "retry-after: Wed, 21 Oct 2026 07:28:00 GMT"), Reply(503)),
        (status(503, "retry-after: 99999999999999"), Reply(503)),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Reply(0, "no HTTP answer: RemoteProtocolError")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", Reply(200)),
        (None, Reply(0, "no answer within 0.5 s")),
    ],
)
async def test_reads_any_answer(sender: Sender, answer: bytes | None, reply: Reply) -> None:
    assert await answered(sender, answer) == reply


async def test_follows_no_redirect(sender: Sender) -> None:
    async with receiving(Receiver(verify=False)) as inner:
        moved = status(307, f"location: {inner.url}")
        assert await answered(sender, moved) == Reply(307)
    assert inner.asked == []


async def test_reads_no_more_than_it_must(sender: Sender) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                written += 65536
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await sender.post(f"http://127.0.0.1:{port}/", "{}", HEADERS) == Reply(200)
        before = written
        await asyncio.sleep(0.02)
    assert written == before, "it is still read"


async def test_a_compressed_answer_is_not_unpacked(sender: Sender) -> None:
    assert await answered(sender, status(200, "content-encoding: gzip", body=b"no gzip")) == Reply(200)


async def test_one_connection_serves_many_events(sender: Sender) -> None:
    ports = set()
    async with receiving(Receiver(lambda got: OK, verify=False)) as receiver:
        for _ in range(3):
            await sender.post(receiver.url, "{}", HEADERS)
            transport = sender._client._transport  # type: ignore[union-attr]
            ports |= {id(connection) for connection in transport._pool.connections}  # type: ignore[attr-defined]
    assert len(ports) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{free}/", "http://a..b/", "http://127.0.0.1:99999/", "https://[/"])
async def test_an_address_that_cannot_be_reached_is_a_reply(sender: Sender, url: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        reply = await sender.post(url.replace("{free}", str(sock.getsockname()[1])), "{}", HEADERS)
    assert reply.status == 0
    assert reply.error


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate by openssl")
async def test_a_certificate_must_be_of_a_known_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1", "-nodes"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    async with receiving(Receiver(verify=False), tls=served) as receiver:
        url = receiver.url.replace("http://127.0.0.1", "https://localhost")
        replies = []
        for known in ("", certificate):
            monkeypatch.setenv("SSL_CERT_FILE", known)  # what the machine trusts
            sender = Sender(seconds=2.0)
            replies.append(await sender.post(url, "{}", HEADERS))
            await sender.close()
    assert replies == [Reply(0, "its certificate is not trusted"), Reply(204)]
