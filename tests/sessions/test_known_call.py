"""What a relayed bot's own worker is told of its call beyond the carrier's wire."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from tests.kit.node import start
from tests.kit.waiting import until


@pytest.fixture
def service(service):
    return replace(service, protocol="relay")


async def known(gateway, path: str, **custom: str) -> dict[str, str]:
    carrier = await gateway.open(path)
    carrier.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
    carrier.send(start(**custom))
    bot = await until(lambda: next((bot for bot in gateway.bots if bot.connections), None))
    return json.loads(base64.b64decode(bot.headers[0]["x-gateway-call"]))


async def test_the_upgrade_has_the_numbers_that_the_webhook_named(gateway):
    told = await known(gateway, await gateway.stream_path())
    assert set(told) == {"carrier", "account", "from", "to"} and told["carrier"] == "twilio"
    assert told["from"].startswith("+1555") and told["to"] == "+15550100000"


async def test_a_stream_drawn_in_a_flow_names_its_account(gateway):
    told = await known(gateway, "/ws/twilio", from_number="+15550100001", to_number="+15550100000")
    assert told == {"carrier": "twilio", "account": "AC1", "from": "+15550100001", "to": "+15550100000"}
