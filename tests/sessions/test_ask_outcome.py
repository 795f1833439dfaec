"""A call whose carrier does not say how it ended: its API is asked, a real one over loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.carriers.twilio import Config, TwilioCarrier
from gateway.pool.facts import FactEvent, call_alias
from gateway.sessions.ask_outcome import OutcomeQuestion
from tests.kit.node import SERVICE
from tests.kit.waiting import until

CALL = "CA" + "0" * 31 + "1"
ACCOUNT = "AC" + "0" * 32


class Api:
    """Answers each request with the next of its states; the last one again and again."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.duration = ""
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        body = json.dumps({"sid": CALL, "status": state, "duration": self.duration}).encode()
        status = b"HTTP/1.1 503 Busy" if state == "down" else b"HTTP/1.1 200 OK"
        writer.write(status + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body))
        writer.write(b"connection: close\r\n\r\n" + body)
        writer.close()


@asynccontextmanager
async def api(gateway, *states: str):
    """An account at Twilio, whose API says this of its one call."""
    answers = Api(*states)
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = Config.model_validate(
        {"account_sid": ACCOUNT, "auth_token": "0" * 32, "api_url": f"http://127.0.0.1:{port}"}
    )
    twilio = TwilioCarrier(config, public_url=gateway.node.public_url)
    gateway.node.carriers = {**gateway.node.carriers, "twilio": twilio}
    gateway.node.limits = replace(gateway.node.limits, terminal_status=0.02)
    try:
        yield answers
    finally:
        server.close()
        await gateway.node.http_client.close()


async def ended_session(gateway):
    """Its stream has ended a moment ago; the carrier has not said why."""
    event = FactEvent(
        carrier="twilio", account=ACCOUNT, call_id=CALL, service=SERVICE, status="ending",
        end_reason="caller_hangup", answered=10.0, ended=70.0, streams=1,
        aliases=(call_alias("twilio", ACCOUNT, CALL),),
    )  # fmt: skip
    facts = await gateway.node.registry.merge("s1", event)
    return gateway.sessions.make(gateway.node.services.get(SERVICE), None, facts)


async def asked(gateway, session) -> None:
    """To the end of all questions."""
    question = OutcomeQuestion(gateway.node, session.facts, session.remember)
    question.ask_later()
    await until(lambda: question.done)


async def known(gateway):
    return await gateway.memory.find("s1")


@pytest.mark.parametrize(("state", "outcome"), [("completed", "completed"), ("busy", "busy"), ("canceled", "canceled")])
async def test_the_outcome_comes_from_the_carrier(gateway, state, outcome):
    session = await ended_session(gateway)
    async with api(gateway, state) as answers:
        await asked(gateway, session)
    facts = await known(gateway)
    assert (facts.outcome, facts.status, facts.call_ended) == (outcome, "ended", 70.0)
    assert answers.asked == [f"GET /2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json HTTP/1.1"]


async def test_one_that_does_not_know_yet_is_asked_again_and_no_more_than_that(gateway):
    session = await ended_session(gateway)
    async with api(gateway, "down", "in-progress", "completed") as answers:
        await asked(gateway, session)
    assert len(answers.asked) == 3
    facts = await known(gateway)
    assert facts.outcome == "completed" and facts.call_ended > 70.0
    async with api(gateway, "in-progress") as answers:
        session = await ended_session(gateway)
        await asked(gateway, session)
    assert not answers.asked, "it is known by now"


async def test_a_call_that_outlived_its_stream_is_as_long_as_its_carrier_says(gateway):
    session = await ended_session(gateway)
    async with api(gateway, "in-progress", "completed") as answers:
        answers.duration = "83"
        await asked(gateway, session)
    assert (await known(gateway)).call_ended == 10.0 + 83.0


async def test_a_call_that_goes_on_keeps_its_facts(gateway):
    session = await ended_session(gateway)
    async with api(gateway, "in-progress") as answers:
        await asked(gateway, session)
    assert len(answers.asked) == 3 and (await known(gateway)).call_ended == 0.0


async def test_a_callback_in_time_spares_the_question(gateway):
    session = await ended_session(gateway)
    await gateway.node.registry.merge("s1", FactEvent(outcome="completed", call_ended=71.0))
    async with api(gateway, "busy") as answers:
        await asked(gateway, session)
    assert not answers.asked and (await known(gateway)).outcome == "completed"


async def test_without_a_key_nobody_is_asked(gateway):
    session = await ended_session(gateway)
    await asked(gateway, session)
    assert (await known(gateway)).call_ended == 0.0
