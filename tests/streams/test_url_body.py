"""`body=` on static URLs, as Pipecat Cloud's have it: it reaches the bot."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from dataclasses import replace
from urllib.parse import parse_qs, quote

import pytest
from structlog.testing import capture_logs

from gateway.streams.url_body import read_body
from tests.kit.node import SERVICE
from tests.kit.waiting import until
from tests.sessions.relay_wires import EXOTEL, PLIVO, WIRES

BODY = {"from": "+15550100001", "to": "+15550100000", "plan": "gold>?"}


def encoded(body: object) -> str:
    return quote(b64encode(json.dumps(body).encode()), safe="")


@pytest.fixture
def service(service):
    return replace(service, protocol="relay")


async def relayed(gateway, wire, query: str, handshake: list[str] | None = None):
    carrier = await gateway.open(f"/ws/{wire.carrier}?{query}")
    for message in handshake or wire.messages("S-1"):
        carrier.send(message)
    return await until(lambda: next((bot for bot in gateway.bots if bot.of_wire("start")), None))


def body_told(bot) -> dict:
    [text] = parse_qs(bot.queries[-1])["body"]
    return json.loads(b64decode(text, validate=True))


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
async def test_the_body_of_a_static_url_reaches_the_bot(gateway, wire):
    bot = await relayed(gateway, wire, f"serviceHost={SERVICE}&body={encoded(BODY)}")
    assert body_told(bot) == BODY


async def test_the_numbers_in_it_are_the_calls_where_the_start_has_none(gateway):
    """Plivo's: bots for Pipecat Cloud get them so."""
    await relayed(gateway, PLIVO, f"serviceHost={SERVICE}&body={encoded(BODY)}")
    [session] = gateway.sessions
    assert (session.call.from_number, session.call.to_number) == ("+15550100001", "+15550100000")


async def test_a_body_that_cannot_be_read_is_said_and_the_call_goes_on(gateway):
    with capture_logs() as logged:
        bot = await relayed(gateway, PLIVO, f"serviceHost={SERVICE}&body=%7B%22")
    assert "body" not in parse_qs(bot.queries[-1])
    assert [line["reason"] for line in logged if line.get("where") == "body"] == ["unreadable"]


async def test_a_body_too_large_for_a_relay_worker_is_said(gateway):
    with capture_logs() as logged:
        bot = await relayed(gateway, PLIVO, f"serviceHost={SERVICE}&body={encoded({'a': 'x' * 4097})}")
    assert "body" not in parse_qs(bot.queries[-1])
    [line] = [line for line in logged if line["event"] == "the bot gets no body"]
    assert "4096 bytes" in line["why"]


@pytest.mark.parametrize("parameters", [{"key": "sk-1", "plan": "gold"}, "key=sk-1&plan=gold"])
async def test_the_stream_key_does_not_reach_the_bot(gateway, parameters):
    connected, start = EXOTEL.messages("S-1")
    start = start.replace('"custom_parameters":{}', f'"custom_parameters":{json.dumps(parameters)}')
    bot = await relayed(gateway, EXOTEL, f"serviceHost={SERVICE}&key=sk-1", [connected, start])
    told = b"".join(bot.relayed)
    assert b"gold" in told
    assert b"sk-1" not in told
    assert "sk-1" not in "".join(bot.queries)


@pytest.mark.parametrize("alphabet", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["", "="])
def test_both_alphabets_are_read_with_and_without_padding(alphabet, padding):
    text = alphabet(json.dumps(BODY).encode()).decode()
    assert read_body("body=" + (text if padding else text.rstrip("="))) == BODY  # a raw + is a blank in a query


@pytest.mark.parametrize("query", ["body=%%%", "body=bm9uZQ==", "body=WzFd", "body=gICA"])
def test_what_is_no_body_is_none(query):
    assert read_body(query) is None


def test_ours_is_not_in_it():
    assert read_body(f"body={encoded({'key': 'k', 'gw_session': 's', 'a': 1})}") == {"a": 1}
    assert read_body("serviceHost=a.b") == {}
