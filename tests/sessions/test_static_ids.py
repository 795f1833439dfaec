"""A static stream names its call itself: it must not get at a call that a webhook has named."""

from __future__ import annotations

from dataclasses import replace

from gateway.node.tokens import Signer
from gateway.sessions.control import is_verified
from gateway.sessions.facts_sync import as_event
from tests.kit.node import start
from tests.kit.waiting import until


async def test_a_key_and_a_call_id_do_not_take_a_running_call_over(gateway):
    honest = await gateway.call("CA1")
    await gateway.started()
    [session] = gateway.sessions
    thief = await gateway.open("/ws/twilio")
    thief.send(start("CA1", "MZ9"))
    await until(lambda: len(gateway.sessions) == 2)
    assert session.ended is None and honest.code is None
    assert gateway.sessions.get(session.id) is session


async def test_a_key_and_a_call_id_do_not_take_a_ringing_call(gateway):
    path = await gateway.stream_path("CA1")
    thief = await gateway.open("/ws/twilio")
    thief.send(start("CA1", "MZ9"))
    await gateway.started()
    honest = await gateway.open(path)
    honest.send(start("CA1"))
    await gateway.started(2)
    assert honest.code is None


async def test_a_static_session_is_not_found_by_the_call_that_it_names(gateway):
    carrier = await gateway.open("/ws/twilio")
    carrier.send(start("CA1"))
    await gateway.started()
    [session] = gateway.sessions
    assert session.id.startswith("s-")
    assert as_event(session.facts).aliases == ()
    assert await gateway.memory.find("twilio:AC1:CA1") is None


async def test_no_rest_request_hangs_up_a_call_that_only_a_key_named(gateway, monkeypatch):
    asked = []
    monkeypatch.setattr(type(gateway.node.http_client), "ask", lambda self, *a, **k: asked.append(a))
    carrier = await gateway.open("/ws/twilio")
    carrier.send(start("CA1"))
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.say(type="hangup", reason="done")
    assert await carrier.until_closed() == 1000
    assert asked == []


async def test_a_static_call_that_runs_while_the_secret_is_rotated_is_found(gateway):
    """Its session's id was made under the secret that was the first then."""
    before = gateway.node.signer
    carrier = await gateway.open("/ws/twilio")
    carrier.send(start("CA1"))
    await gateway.started()
    [session] = gateway.sessions
    signed = replace(session.facts, account="AC1", session=before.static_session_id("twilio", "AC1", "CA1"))
    gateway.node.signer = Signer((b"the next secret", b"a secret of the tests"))
    assert is_verified(gateway.node, signed) and not is_verified(gateway.node, session.facts)
    await gateway.http.post(
        "/webhooks/twilio/status", data={"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
    )
    await until(lambda: session.ended)
    await until(lambda: not gateway.sessions)
