"""`POST /v1/calls` and what is done with such a call afterwards, against the simulated carriers' REST APIs."""

from __future__ import annotations

import io
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.api.dial import problem_of
from gateway.api.parts import Api
from gateway.cli.follow import Order, follow
from gateway.dialout.request import DialRefusal
from gateway.node.dial_policy import DialPolicy
from gateway.serve.app import make_app
from gateway.simulator.rest import Plan
from tests.api.serving import KEY, KEYS, api_of, problem
from tests.dialout.rig import CARRIERS, OURS, TO, rig
from tests.kit.http_server import serving
from tests.kit.waiting import until

QUICK = Plan(rings=0.02)
BODY = {"order": 17, "notes": ["ä", {"b": None}]}


@pytest.fixture(params=CARRIERS)
def carrier(request) -> str:
    return request.param


def call(carrier: str, to: str = TO, **more) -> dict:
    return {"carrier": carrier, "to": to, "from": OURS, "body": BODY, **more}


@asynccontextmanager
async def site(tmp_path, **options):
    """A gateway, the carriers, and a client of its API."""
    async with rig(tmp_path, **options) as rigged:
        [gateway] = rigged.gateways
        async with api_of(gateway.sessions, dialout=gateway.dialout) as http:
            yield rigged, gateway, http


async def test_a_call_is_placed_and_hung_up(tmp_path, carrier):
    async with site(tmp_path, plan=QUICK) as (rigged, gateway, http):
        answer = await http.post("/v1/calls", json=call(carrier))
        assert answer.status_code == 201, answer.text
        session = answer.json()["session_id"]
        assert answer.headers["location"] == f"/v1/calls/{session}"
        started = await rigged.started()
        assert (started["session_id"], started["call"]["body"]) == (session, BODY)
        assert (await http.post(f"/v1/calls/{session}/hangup")).status_code == 202
        facts = await gateway.over(session)
        assert facts.end_reason == "api_hangup"
        [dialled] = rigged.dialled()
        assert dialled.to == TO
        assert (await http.post(f"/v1/calls/{session}/hangup")).json()["status"] == "ended"


async def test_a_ringing_call_is_cancelled(tmp_path, carrier):
    async with site(tmp_path, plan=Plan(rings=30.0)) as (rigged, gateway, http):
        session = (await http.post("/v1/calls", json=call(carrier))).json()["session_id"]
        [dialled] = await until(rigged.dialled)
        await until(lambda: dialled.status == "ringing")
        if carrier == "plivo":  # its id comes with the ring callback

            async def named() -> str:
                return (await gateway.facts(session)).call_id

            await until(named)
        answer = await http.post(f"/v1/calls/{session}/hangup")
        if carrier == "exotel":
            assert "has not been answered" in problem(answer, 409)["detail"]
            return
        assert answer.status_code == 202
        assert (await gateway.over(session)).end_reason == "canceled"
        await until(lambda: dialled.is_over, complain="it rings no more")
        await gateway.nothing_is_left()


async def test_the_same_idempotency_key_gives_the_first_answer(tmp_path):
    async with site(tmp_path) as (rigged, _, http):
        headers = {"idempotency-key": "order-17"}
        first = await http.post("/v1/calls", json=call("twilio"), headers=headers)
        again = await http.post("/v1/calls", json=call("twilio"), headers=headers)
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        other = problem(await http.post("/v1/calls", json=call("plivo"), headers=headers), 422)
        assert other["errors"][0]["field"] == "Idempotency-Key"
        assert len(rigged.dialled()) == 1


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"to": "+19005550123"}, 403, "never dialled"),
        ({"to": "+442071838750"}, 403, "[dialout] allow"),
        ({"from": "+15550199"}, 403, "[dialout] callers"),
        ({"to": "911"}, 403, "to: a number of this kind is never dialled."),
        ({"to": "112"}, 403, "to: a number of this kind is never dialled."),
        ({"to": "+1911"}, 403, "to: a number of this kind is never dialled."),
        ({"to": "5550123"}, 422, "to: "),
        ({"carrier": "acme"}, 422, "carrier: "),
        ({"serviceHost": "no.such"}, 422, "serviceHost: "),
        ({"max_call_seconds": 0}, 422, "max_call_seconds: must be at least 1"),
        ({"machine_detection": "maybe"}, 422, "machine_detection: "),
        ({"body": "x"}, 422, "body: must be an object"),
        ({"body": {"a": "x" * 65536}}, 422, "body: is larger than 64 KB"),
        ({"carrier": "exotel", "machine_detection": "detect"}, 409, "machine"),
    ],
)
async def test_what_is_not_dialled(tmp_path, wrong, status, says):
    async with site(tmp_path) as (rigged, _, http):
        said = problem(await http.post("/v1/calls", json=call("twilio") | wrong), status)
        assert says in said["detail"]
        assert not rigged.carriers.calls


async def test_an_idempotency_key_that_is_none(tmp_path):
    async with site(tmp_path) as (_, __, http):
        for key in ("", "x" * 256, "schlüssel"):
            answer = await http.post("/v1/calls", json=call("twilio"), headers={"idempotency-key": key.encode()})
            said = problem(answer, 422)
            assert said["errors"][0]["field"] == "Idempotency-Key" and said["code"] == "invalid"
            assert said["detail"].startswith("Idempotency-Key: must be printable ASCII, 1 to 255 characters")


async def test_what_the_carrier_refuses_is_told_in_its_words(tmp_path):
    async with site(tmp_path) as (_, __, http):
        said = problem(await http.post("/v1/calls", json=call("twilio", "+15550000140")), 502)
        assert said["code"] and said["detail"]


def test_a_refusal_that_may_be_repeated_says_when():
    answer = problem_of(DialRefusal(429, "rate", "Too many.", retry_after=0.2)).response()
    assert answer.headers["retry-after"] == "1"


def test_whatever_a_carrier_says_is_written():
    answer = problem_of(DialRefusal(502, "13224\ud800", "The number\ud800 is wrong.")).response()
    assert json.loads(answer.body)["code"] == "13224\ud800"


async def test_a_gateway_that_places_no_calls(gateway, http):
    problem(await http.post("/v1/calls", json=call("twilio")), 409)
    problem(await http.post("/start", json={"phone_number": TO, "from": OURS}), 409)


async def test_start_with_a_number_dials(tmp_path):
    async with site(tmp_path, plan=QUICK) as (rigged, gateway, http):
        answer = await http.post("/start", json={"transport": "telnyx", "phone_number": TO, "body": BODY})
        assert answer.status_code == 200, answer.text
        started = await rigged.started()
        assert (started["session_id"], started["call"]["body"]) == (answer.json()["sessionId"], BODY)
        assert started["call"]["from"] == OURS
        await http.post(f"/v1/calls/{started['session_id']}/hangup", json={"at_once": True})
        await gateway.over(started["session_id"])


async def test_keys_are_heard_at_the_carrier_and_the_bot_is_back(tmp_path):
    async with site(tmp_path, plan=QUICK) as (rigged, gateway, http):
        session = (await http.post("/v1/calls", json=call("twilio"))).json()["session_id"]
        await rigged.started()
        assert (await http.post(f"/v1/calls/{session}/dtmf", json={"digits": "12#"})).status_code == 202
        await until(lambda: "reattached" in [said["status"] for said in rigged.bot.of("status")])
        [dialled] = rigged.dialled()
        assert "".join(dialled.report.dtmf) == "12#"
        await http.post(f"/v1/calls/{session}/hangup", json={"at_once": True})
        await gateway.over(session)


async def test_a_transfer_that_is_not_answered_brings_the_bot_back(tmp_path, carrier):
    plan = Plan(rings=0.02, dial_result="no-answer", dial_seconds=0.05)
    async with site(tmp_path, plan=plan) as (rigged, gateway, http):
        gateway.node.dial_allowed = DialPolicy(("+1",))
        session = (await http.post("/v1/calls", json=call(carrier))).json()["session_id"]
        await rigged.started()
        answer = await http.post(f"/v1/calls/{session}/transfer", json={"to": "+15550123"})
        if carrier == "exotel":  # without a flow nothing comes after the stream
            assert "flow_id" in problem(answer, 409)["detail"]
            return
        assert answer.status_code == 202
        await until(lambda: any(m["status"] == "transfer_failed" for bot in rigged.bots for m in bot.of("status")))
        await http.post(f"/v1/calls/{session}/hangup", json={"at_once": True})
        await gateway.over(session)


async def test_gateway_dial_follows_such_a_call_to_its_end(tmp_path):
    plan = Plan(rings=0.05, seconds=0.2)
    async with rig(tmp_path, plan=plan) as rigged:
        [gateway] = rigged.gateways
        app = make_app(gateway.sessions, lambda: True, Api(gateway.sessions, KEYS, gateway.dialout))
        async with serving(app=app, keep_alive=30.0) as served:
            order = Order(f"http://127.0.0.1:{served.port}", KEY, {"to": TO, "from": OURS, "carrier": "plivo"})
            out, say = io.StringIO(), io.StringIO()
            assert await follow(order, as_json=True, out=out, say=say) == 0
            record = json.loads(out.getvalue())
            assert (record["status"], record["end_reason"], record["to"]) == ("ended", "caller_hangup", TO)
            order = replace(order, key="wrong")
            assert await follow(order, as_json=True, out=out, say=say) == 2
            assert "A key of [api] keys is needed" in say.getvalue()
