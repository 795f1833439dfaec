"""A carrier that asks whom to dial does so at a route of its own naming; no other carrier has one."""

from __future__ import annotations

import httpx
import orjson
import pytest

from gateway.carriers.exotel import ExotelCarrier
from gateway.pool.facts import Continuation, FactEvent
from gateway.serve.app import make_app
from tests.webhooks.wires import WIRES

NUMBER = "+15550123"


class Acme(ExotelCarrier):
    """A carrier whose flows ask at another route."""

    name = "acme"
    dial_route = "whom"


async def asked(gateway, carrier: str, route: str) -> httpx.Response:
    """A call that is to be transferred asks there."""
    form = WIRES["exotel" if carrier == "acme" else carrier].voice
    session = gateway.node.signer.session_id(carrier, "", form.get("CallSid") or form["CallUUID"])
    await gateway.node.registry.merge(session, FactEvent(continuation=Continuation("dial", NUMBER, 1)))
    transport = httpx.ASGITransport(make_app(gateway.sessions, ready=lambda: True))
    async with httpx.AsyncClient(transport=transport, base_url=gateway.node.public_url) as http:
        return await http.post(f"/webhooks/{carrier}/{route}", data=dict(form))


@pytest.mark.parametrize("carrier", sorted(WIRES))
async def test_only_a_carrier_with_such_a_route_is_told_a_number(gateway, carrier):
    answer = await asked(gateway, carrier, "connect")
    if carrier == "exotel":
        assert orjson.loads(answer.content)["destination"]["numbers"] == [NUMBER]
    else:
        assert answer.status_code == 404


async def test_a_carrier_names_its_route_itself(gateway):
    gateway.node.carriers["acme"] = Acme(None, public_url=gateway.node.public_url, dev=True)
    answer = await asked(gateway, "acme", "whom")
    assert orjson.loads(answer.content)["destination"]["numbers"] == [NUMBER]
    assert (await asked(gateway, "acme", "connect")).status_code == 404


async def test_an_unknown_service_is_refused_unless_the_call_is_known(gateway):
    path, form = "/webhooks/exotel/connect?serviceHost=nobody.acme", dict(WIRES["exotel"].voice)
    assert (await gateway.http.post(path, data=form)).status_code == 503
    assert gateway.node.rejected["connect", "unknown_service"] == 1
    assert (await asked(gateway, "exotel", "connect?serviceHost=nobody.acme")).json()["destination"]["numbers"] == [
        NUMBER
    ]
