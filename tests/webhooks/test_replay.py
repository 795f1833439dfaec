"""A signed webhook that is shown again when the facts of its call have expired starts no call."""

from __future__ import annotations

import base64
import hmac
import time
from urllib.parse import urlencode

import pytest
from nacl.signing import SigningKey

from gateway.carriers import CARRIERS
from gateway.carriers.form import read_query
from gateway.carriers.plivo_signature import sign, to_sign
from gateway.pool.facts import FactEvent
from gateway.webhooks.receive import REPLAY_MEMORY

UUID = "8f1e5c2a-0b7d-4c3e-9a61-2d4f6b8c0e13"
TELNYX_KEY = SigningKey(bytes(range(32)))
CONFIGS = {
    "twilio": {"account_sid": "AC1", "auth_token": "a token"},
    "telnyx": {"public_key": base64.b64encode(bytes(TELNYX_KEY.verify_key)).decode()},
    "plivo": {"auth_id": "MA1", "auth_token": "a token"},
    "exotel": {"account_sid": "acme", "webhook_secret": "secret"},
}
NUMBERS = {"From": "+15550100001", "To": "+15550100000", "Direction": "inbound", "CallStatus": "ringing"}
FORMS = {
    "twilio": {"CallSid": "CA1", "AccountSid": "AC1", **NUMBERS},
    "telnyx": {"CallSid": "v3:one", **NUMBERS},
    "plivo": {"CallUUID": UUID, "Event": "StartApp", **NUMBERS},
    "exotel": {"CallSid": "EX1", "CallFrom": "+15550100001", "CallTo": "+15550100000", "Direction": "incoming"},
}
CALLS = {"twilio": "CA1", "telnyx": "v3:one", "plivo": UUID, "exotel": "EX1"}


def signature(carrier: str, url: str, form: dict[str, str], at: float, nonce: str) -> dict[str, str]:
    """The headers by which the carrier vouches for this request. nonce: Plivo's, another for each request."""
    if carrier == "twilio":
        signed = url + "".join(name + form[name] for name in sorted(form))
        mac = hmac.digest(b"a token", signed.encode(), "sha1")
        return {"x-twilio-signature": base64.b64encode(mac).decode()}
    if carrier == "telnyx":
        stamp = str(int(at))
        made = TELNYX_KEY.sign(f"{stamp}|{urlencode(form)}".encode()).signature
        return {"telnyx-timestamp": stamp, "telnyx-signature-ed25519": base64.b64encode(made).decode()}
    if carrier == "plivo":
        path, _, query = url.partition("?")
        text = to_sign("POST", path, read_query(query), read_query(urlencode(form)), nonce)
        return {"x-plivo-signature-v3-nonce": nonce, "x-plivo-signature-v3": sign("a token", text)}
    return {"authorization": "Basic " + base64.b64encode(b"any:secret").decode()}


class Clock:
    """Of the registry and the node: it moves when told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=CONFIGS)
def carrier(request) -> str:
    return request.param


@pytest.fixture
def clock(gateway, carrier) -> Clock:
    """Signatures are required, and time stands still."""
    clock, node = Clock(), gateway.node
    entry = CARRIERS[carrier]
    config = entry.config.model_validate(CONFIGS[carrier])
    node.carriers[carrier] = entry.carrier(config, public_url=node.public_url)
    node.unix_time = gateway.memory._unix_time = clock
    began, leases_began = clock.now, time.monotonic()
    gateway.memory._clock = lambda: leases_began + clock.now - began  # leases know nothing of the date
    return clock


async def ask(gateway, carrier: str, route: str = "voice", *, at: float, nonce: str = "", **fields: str):
    """A webhook, signed at that time. Returns the answer."""
    path, form = f"/webhooks/{carrier}/{route}", {**FORMS[carrier], **fields}
    headers = signature(carrier, gateway.node.public_url + path, form, at, nonce or route)
    headers["content-type"] = "application/x-www-form-urlencoded"
    return await gateway.http.post(path, content=urlencode(form), headers=headers)


async def end(gateway, carrier: str) -> None:
    """The carrier says that the call is over."""
    account = {"twilio": "AC1", "telnyx": "default", "plivo": "MA1", "exotel": "acme"}[carrier]
    session = gateway.node.signer.session_id(carrier, account, CALLS[carrier])
    assert (await gateway.memory.find(session)).created
    now = gateway.node.unix_time()
    await gateway.node.registry.merge(session, FactEvent(status="ended", ended=now, call_ended=now))


async def keep_workers(gateway, clock: Clock, seconds: float) -> None:
    """Time goes by; the host of the bots has beaten all the while."""
    [state] = gateway.memory._hosts.values()
    host = state.host
    clock.now += seconds
    await gateway.memory.put_host(host)


def streams(answer) -> bool:
    return b"/ws/" in answer.content


@pytest.mark.parametrize("route", ["voice", "resume"])
async def test_a_replay_after_the_facts_have_expired_starts_no_call(gateway, carrier, clock, route):
    signed_at = clock.now
    assert streams(await ask(gateway, carrier, at=signed_at))
    await ask(gateway, carrier, "resume", at=signed_at)
    await end(gateway, carrier)
    for later in (gateway.node.leases.ended + 1, 24 * 3600.0, REPLAY_MEMORY - 2 * 24 * 3600.0):
        await keep_workers(gateway, clock, later)
        replay = await ask(gateway, carrier, route, at=signed_at)
        assert replay.status_code == 403
    assert not gateway.sessions.preopened
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_a_carriers_own_retry_is_answered_as_before(gateway, carrier, clock):
    first = await ask(gateway, carrier, at=clock.now)
    again = await ask(gateway, carrier, at=clock.now)
    assert again.status_code == 200 and again.content == first.content


async def test_another_request_of_a_call_that_was_away_for_long_is_answered(gateway, carrier, clock):
    """A flow comes back after twenty minutes with a colleague, whom the bot had given the call to."""
    assert streams(await ask(gateway, carrier, at=clock.now))
    await end(gateway, carrier)
    await keep_workers(gateway, clock, 1200.0)
    back = {"CurrentTime": "2025-01-07 15:51:06"} if carrier == "exotel" else {"CallStatus": "in-progress"}
    assert streams(await ask(gateway, carrier, at=clock.now, nonce="n2", **back))


async def test_a_call_that_ended_before_it_rang_is_not_started_by_a_replay(gateway, carrier, clock):
    """The end may overtake the beginning: then the facts were there before the first /voice."""
    account = {"twilio": "AC1", "telnyx": "default", "plivo": "MA1", "exotel": "acme"}[carrier]
    session = gateway.node.signer.session_id(carrier, account, CALLS[carrier])
    await gateway.node.registry.merge(session, FactEvent(status="ended"))
    signed_at = clock.now
    assert not streams(await ask(gateway, carrier, at=signed_at))
    await keep_workers(gateway, clock, gateway.node.leases.ended + 1)
    assert not streams(await ask(gateway, carrier, at=signed_at))
