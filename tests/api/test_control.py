"""Call control by REST: what `sessions.control` says, as statuses and sentences."""

from __future__ import annotations

import pytest

from tests.api.serving import api_of, problem
from tests.kit.two_nodes import second_node
from tests.sessions.test_control import begin
from tests.webhooks.wires import WIRES


async def test_a_call_is_hung_up(gateway, http):
    session, bot, _ = await begin(gateway)
    answer = await http.post(f"/v1/calls/{session}/hangup")
    assert (answer.status_code, answer.json()) == (202, {"session_id": session, "status": "accepted"})
    assert (await bot.until("stop"))["reason"] == "api_hangup"
    again = await http.post(f"/v1/calls/{session}/hangup", json={"at_once": True})
    assert (again.status_code, again.json()) == (200, {"session_id": session, "status": "ended"})


@pytest.mark.parametrize("carrier", WIRES)
async def test_a_call_is_transferred(gateway, http, carrier):
    session, bot, _ = await begin(gateway, carrier)
    assert (await http.post(f"/v1/calls/{session}/transfer", json={"to": "+15550123"})).status_code == 202
    assert (await bot.until("stop"))["reason"] == "transferred"


@pytest.mark.parametrize(
    ("to", "status", "says"),
    [
        ("+442071838750", 403, "[dialout] allow"),
        ("+19005550123", 403, "of this kind is never dialled"),
        ("911", 403, "of this kind is never dialled"),
        ("5550123", 422, "in E.164"),
        ("sip:a@b.example", 422, "in E.164"),
    ],
)
async def test_a_number_that_no_call_is_transferred_to(gateway, http, to, status, says):
    session, _, stream = await begin(gateway)
    said = problem(await http.post(f"/v1/calls/{session}/transfer", json={"to": to}), status)
    assert says in said["detail"]
    assert stream.code is None


async def test_keys_are_pressed(gateway, http):
    session, _, stream = await begin(gateway, "plivo")
    assert (await http.post(f"/v1/calls/{session}/dtmf", json={"digits": "12#"})).status_code == 202
    assert (await stream.until("sendDTMF"))["dtmf"] == "12#"


async def test_what_the_carrier_cannot_is_said_in_a_sentence(gateway, http):
    session, _, stream = await begin(gateway, "exotel")
    said = problem(await http.post(f"/v1/calls/{session}/dtmf", json={"digits": "1"}), 409)
    assert said["code"] == "not_possible" and said["detail"].endswith(".")
    assert stream.code is None


async def test_a_node_that_does_not_answer_is_said_in_a_sentence(gateway):
    async with second_node(gateway, first_answers=False) as second, api_of(second.sessions) as http:
        session, _, stream = await begin(gateway, "plivo")
        second.limit(order_timeout=0.2)
        said = problem(await http.post(f"/v1/calls/{session}/dtmf", json={"digits": "1"}), 504)
        assert (said["code"], said["title"]) == ("no_answer", "Gateway Timeout")
        assert said["detail"] == "The node that has the call did not answer in time, and nothing was done: try again."
        assert stream.code is None
