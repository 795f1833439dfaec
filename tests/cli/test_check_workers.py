"""`gateway check` opens a link to each static worker, and knows which codecs are noise to relayed bots."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

from gateway.cli.check import NOTE
from gateway.cli.check_workers import examine_relay, reach_workers
from gateway.settings import Settings, load
from gateway.sockets import Accept, Refusal, server_protocol
from tests.acceptance.program import free_port


class Ear:
    def __init__(self, heard: list) -> None:
        self.heard = heard

    def opened(self, socket) -> None:
        self.heard.append("opened")

    def received(self, data, text) -> None:
        self.heard.append(data)

    def closed(self, code, reason) -> None:
        self.heard.append(code)


@contextmanager
def worker(*, ready: int = 200, upgrade: int = 101):
    """One in another thread's loop. Gives its URL, the upgrades it was asked for and what came on its links."""
    upgrades, heard, loop = [], [], asyncio.new_event_loop()

    def decide(asked):
        upgrades.append(asked)
        return Accept(Ear(heard), subprotocol="gateway.pcm.v1") if upgrade == 101 else Refusal(upgrade)

    protocol = server_protocol(decide, plain=lambda request: Refusal(ready))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve():
        return await loop.create_server(protocol, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(5)
    yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", upgrades, heard
    loop.call_soon_threadsafe(server.close)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def settings(*urls: str, **fields) -> Settings:
    return Settings.model_validate({"services": [{"host": "a.b", "workers": urls, "protocol": "relay", **fields}]})


def test_workers_that_take_calls_are_not_told_of_and_hear_nothing():
    with worker() as (url, upgrades, heard):
        assert list(reach_workers(settings(url))) == []
    assert upgrades[0].path == "/ws"
    assert "sec-websocket-protocol" not in upgrades[0].headers
    assert heard[0] == "opened" and not any(isinstance(one, bytes) for one in heard)


def test_a_pcm_worker_is_shown_its_key():
    with worker() as (url, upgrades, _):
        assert list(reach_workers(settings(url, protocol="pcm", link_key="k" * 16))) == []
    assert upgrades[0].headers["authorization"] == "Bearer " + "k" * 16
    assert upgrades[0].headers["sec-websocket-protocol"] == "gateway.pcm.v1"


def test_a_dead_one_is_said_without_what_may_be_secret():
    url = f"ws://user:pass@127.0.0.1:{free_port()}/ws?token=secret"
    [line] = reach_workers(settings(url))
    assert line.startswith("services.a.b.workers: ws://127.0.0.1:")
    assert "start it or take it out" in line
    assert "pass" not in line and "secret" not in line


@pytest.mark.parametrize(("status", "words"), [(401, "link_key"), (403, "403"), (404, "path"), (500, "500")])
def test_one_that_refuses_the_link_is_said(status, words):
    with worker(upgrade=status) as (url, _, _):
        [line] = reach_workers(settings(url))
    assert words in line and not line.startswith(NOTE)


def test_one_that_says_it_is_busy_is_noted_and_left_alone():
    with worker(ready=503) as (url, upgrades, _):
        [line] = reach_workers(settings(url))
    assert line.startswith(f"{NOTE}services.a.b.workers: ")
    assert not upgrades


def test_of_very_many_dead_ones_not_all_are_named():
    port = free_port()
    lines = list(reach_workers(settings(*(f"ws://127.0.0.1:{port}/ws{n}" for n in range(30)))))
    assert len(lines) == 11
    assert lines[-1] == "services.a.b.workers: 20 more of 30 would take no call now"


FILE = """
public_url = "https://v.example.com"
[carriers.twilio]
account_sid = "AC1"
auth_token = "t"
[carriers.telnyx]
api_key = "k"
[carriers.plivo]
auth_id = "MA1"
auth_token = "t"
[[services]]
host = "a.b"
"""


@pytest.mark.parametrize(
    ("codec", "protocol", "noisy"),
    [
        ("alaw", "relay", "telnyx"),
        ("mulaw", "relay", ""),
        ("l16", "pcm", ""),
    ],
)
def test_a_codec_that_is_noise_to_relayed_bots_is_said(tmp_path, codec, protocol, noisy):
    """Twilio has one codec, and asking for another changes nothing."""
    file = tmp_path / "gateway.toml"
    file.write_text(f'{FILE}codec = "{codec}"\nprotocol = "{protocol}"\n')
    read = load(str(file), {})
    lines = list(examine_relay(read, read.services[0]))
    assert [line.partition(": ")[0] for line in lines] == ["services.a.b.codec"] * bool(noisy)
    assert all(f"noise on {noisy} to" in line and 'set codec = "mulaw"' in line for line in lines)
