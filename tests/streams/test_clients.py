"""A client of the user's own reaches a bot through `/ws-client`, in the shapes of Pipecat's runner."""

from __future__ import annotations

import base64
import json
import signal
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from structlog.testing import capture_logs

from gateway.errors import LinkRefused, RegistryUnavailable
from gateway.pool.registry import Host, Leases
from gateway.protocol.workers import Worker
from gateway.serve.drain import Drain
from gateway.sessions import control
from gateway.sessions.client_session import MAX_EARLY
from gateway.sessions.lease_renewal import renew_claims, resend_after_registry_loss
from tests.api.image import image, serve_by
from tests.api.serving import api_of, problem
from tests.kit.node import SERVICE
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until

BODY = {"user": "Ada", "n": [1, "ä"]}


@pytest.fixture
def service(service):
    return replace(service, protocol="relay", rest=0.0, wrapup=0.1)


@pytest.fixture
async def worker(gateway):
    async with image() as made:
        await serve_by(gateway, made)
        yield made
        for client in tuple(gateway.sessions.clients.values()):
            client.end("drained")
        await until(lambda: not gateway.sessions.clients)


async def prepared(gateway, **more) -> dict:
    async with api_of(gateway.sessions) as http:
        answer = await http.post("/start", json={"transport": "websocket", "body": BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def path_of(said: dict) -> str:
    assert said["wsUrl"].endswith(f"/ws-client/{said['token']}")
    return said["wsUrl"].removeprefix("ws://127.0.0.1:1")


async def joined(gateway, worker):
    """A client whose bot has it. Returns its session's id, too."""
    said = await prepared(gateway)
    client = await gateway.open(path_of(said))
    await until(lambda: said["sessionId"] in gateway.sessions.clients and worker.upgrades)
    session = gateway.sessions.clients[said["sessionId"]]
    await until(lambda: session.facts.status == "streaming")
    return client, said["sessionId"]


async def ended(gateway, session: str) -> str:
    await until(lambda: not gateway.sessions.clients)
    facts = await gateway.memory.find(session)
    assert facts.over
    return facts.end_reason


async def test_messages_go_both_ways_as_they_are(gateway, worker):
    said = await prepared(gateway)
    assert json.loads(base64.b64decode(said["body"])) == BODY
    await worker.say.put(b"\0audio of the bot, which speaks first")
    client = await gateway.open(path_of(said))
    client.send("before there is a bot")
    await until(lambda: client.raw == [b"\0audio of the bot, which speaks first"])
    client.send(b"\xffaudio")
    client.send("text")
    await until(lambda: worker.heard == ["before there is a bot", b"\xffaudio", "text"])
    [upgrade] = worker.upgrades
    assert dict(upgrade["headers"])[b"x-daily-session-id"] == said["sessionId"].encode()
    [body] = parse_qs(upgrade["query_string"].decode())["body"]
    assert json.loads(base64.b64decode(body)) == BODY


async def test_the_clients_end_ends_its_session_and_frees_the_worker(gateway, worker):
    client, session = await joined(gateway, worker)
    async with api_of(gateway.sessions) as http:
        [listed] = (await http.get("/v1/agents/support/sessions")).json()["sessions"]
    assert (listed["sessionId"], listed["coldStart"]) == (session, False) and listed["botStartSeconds"] > 0
    assert (await gateway.memory.slots(SERVICE)).used == 1
    client.socket.close()
    assert await ended(gateway, session) == "caller_hangup"
    await until(lambda: not gateway.node.tasks)
    assert (await gateway.memory.slots(SERVICE)).used == 0


async def test_the_bots_end_closes_the_client(gateway, worker):
    client, session = await joined(gateway, worker)
    await worker.say.put(None)
    assert await client.until_closed() == 1000
    assert await ended(gateway, session) == "bot_hangup"


@pytest.mark.parametrize("where", ["twice", "header", "query"])
async def test_a_token_is_taken_where_pipecat_takes_it_once(gateway, worker, where):
    said = await prepared(gateway)
    token = said["token"]
    path, headers = {
        "twice": (f"{path_of(said)}/{token}", {}),
        "header": ("/ws-client", {"Authorization": f"Bearer {token}"}),
        "query": (f"/ws-client?token={token}&body={said['body']}", {}),
    }[where]
    await gateway.open(path, headers)
    await until(lambda: worker.upgrades)
    again = await gateway.open(path, headers)
    assert await again.until_closed() == 4003
    assert len(worker.upgrades) == 1


@pytest.mark.parametrize("path", ["/ws-client/x", "/ws-client?token=x", "/ws-client/a/b"])
async def test_without_a_good_token_the_door_stays_shut(gateway, worker, path):
    with pytest.raises(LinkRefused):
        await gateway.open(path)
    token = (await prepared(gateway, transport="twilio"))["token"]
    with pytest.raises(LinkRefused, match="403"):
        await gateway.open(f"/ws-client/{token}")


async def test_a_trial_needs_no_token(gateway, worker):
    await gateway.open(f"/ws-client?serviceHost={SERVICE}")
    await until(lambda: worker.upgrades)


async def test_a_session_is_ended_from_any_node(gateway, worker):
    client, session = await joined(gateway, worker)
    async with second_node(gateway) as second, api_of(second.sessions) as http:
        assert (await http.delete(f"/v1/agents/support/sessions/{session}")).json()["status"] == "terminated"
        assert await client.until_closed() == 1000
        assert await ended(gateway, session) == "api_hangup"


async def test_a_session_is_hung_up_as_a_call_is(gateway, worker):
    client, session = await joined(gateway, worker)
    async with api_of(gateway.sessions) as http:
        assert (await http.post(f"/v1/calls/{session}/hangup")).status_code == 202
    assert await client.until_closed() == 1000


async def test_what_is_for_telephones_is_refused_with_the_reason(gateway, worker):
    _, session = await joined(gateway, worker)
    refused = control.NotPossible(control.NO_CARRIER)
    assert await control.transfer(gateway.sessions, session, "+15550123") == refused
    assert await control.press(gateway.sessions, session, "1") == refused
    assert await control.pause_recording(gateway.sessions, session, pause=True) == refused


async def test_audio_for_a_side_that_does_not_read_is_counted(gateway, worker):
    client, session = await joined(gateway, worker)
    live = gateway.sessions.clients[session]
    await until(lambda: live._link is not None)
    live._limits = replace(live._limits, link_unsent=-1, stream_unsent=-1)  # as if each had much to read still
    with capture_logs() as logs:
        client.send(b"lost")
        live._from_bot(b"lost", False)
        await until(lambda: live._dropped_to_bot)
        client.socket.close()
        await until(lambda: not gateway.sessions.clients)
        await until(lambda: [line for line in logs if line["event"] == "client session ended"])
    [line] = [line for line in logs if line["event"] == "client session ended"]
    assert (line["dropped_to_bot"], line["dropped_to_client"]) == (1, 1)


async def test_a_drain_waits_for_clients_and_ends_them_at_its_deadline(gateway, worker):
    client, session = await joined(gateway, worker)
    drain = Drain(gateway.sessions, 0.1, others=False)
    drain.on_signal(signal.SIGTERM)
    await drain.wait()
    assert await client.until_closed() == 1000
    assert await ended(gateway, session) == "drained"
    with pytest.raises(LinkRefused, match="503"):
        await gateway.open(path_of(await prepared(gateway)))


async def test_where_no_worker_is_free_the_client_is_told(gateway, worker):
    await gateway.memory.claim(SERVICE, "another")
    client = await gateway.open(path_of(await prepared(gateway)))
    assert await client.until_closed() == 1013


async def test_more_than_is_kept_for_the_bot_is_refused(gateway, worker):
    host = Host("h2", 1, SERVICE, "relay", 1, ())
    await gateway.memory.drop_host(f"static:{SERVICE}", 1)
    await gateway.memory.put_host(host)  # whose worker starts, and is not there yet
    client = await gateway.open(path_of(await prepared(gateway)))
    for _ in range(MAX_EARLY + 1):
        client.send("x")
    assert await client.until_closed() == 1008


async def test_bots_of_pcm_have_no_wire_for_it(gateway, worker):
    gateway.node.protocols[SERVICE] = "pcm"
    gateway.node.services = type(gateway.node.services)([replace(gateway.node.services.get(SERVICE), protocol=None)])
    async with api_of(gateway.sessions) as http:
        said = problem(await http.post("/start", json={"transport": "websocket"}), 409)
    assert "relay" in said["detail"]
    del gateway.node.protocols[SERVICE]
    path = path_of(await prepared(gateway))  # this node knows of none of its hosts
    await gateway.memory.drop_host(f"static:{SERVICE}", 1)
    await gateway.memory.put_host(
        Host("h2", 1, SERVICE, "pcm", 1, (Worker("w", gateway.worker_urls[0], "ready"),), "k")
    )
    client = await gateway.open(path)
    assert await client.until_closed() == 1011


async def test_a_clients_claim_is_renewed_with_those_of_calls(gateway, worker):
    client, session = await joined(gateway, worker)
    gateway.node.leases = Leases().scaled(0.02)
    renewed = []
    renew = gateway.memory.renew

    async def noting(claims):
        renewed.append(claims)
        return await renew(claims)

    gateway.memory.renew = noting
    keeper = gateway.node.spawn(renew_claims(gateway.sessions), "renew")
    try:
        await until(lambda: renewed)
        assert renewed[0] == {session: gateway.sessions.clients[session].claim.fence}
        newer = await gateway.memory.claim(SERVICE, session)
        await gateway.memory.confirm(session, newer.attempt)
        await client.until_closed()
        assert await ended(gateway, session) == "worker_lost"
    finally:
        keeper.cancel()


async def test_the_end_of_a_client_is_kept_through_an_outage(gateway, worker):
    """Records are told at once, and the registry when it is back."""
    client, session = await joined(gateway, worker)
    noted = []
    gateway.node.records = SimpleNamespace(note=noted.append)
    merge, release = gateway.memory.merge, gateway.memory.release

    async def away(*_):
        raise RegistryUnavailable("for this test")

    gateway.memory.merge = gateway.memory.release = away
    client.socket.close()
    [facts] = await until(lambda: noted)
    assert facts.session == session and facts.end_reason == "caller_hangup" and facts.ended
    gateway.memory.merge = merge
    telling = gateway.node.spawn(resend_after_registry_loss(gateway.sessions), "resend")
    try:

        async def over() -> bool:
            return (await gateway.memory.find(session)).over

        await until(over)
    finally:
        gateway.memory.release = release
        telling.cancel()
