"""What the carrier is told to call us by is believed when it does."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from lxml import etree

from gateway.carriers import CARRIERS
from gateway.node.services import Fallback
from gateway.pool.facts import Continuation, FactEvent

CALL = {"CallSid": "v3:one", "From": "+15550100001", "To": "+15550100000", "Direction": "inbound"}
APPLICATIONS = [
    {"connection_id": "1", "webhook_secret": "the first's"},
    {"connection_id": "2", "webhook_secret": ["the second's", "its old one"]},
]


@pytest.fixture
def by_key(gateway):
    """Telnyx, whose requests carry a secret in their URL, with two applications."""
    telnyx = CARRIERS["telnyx"]
    config = telnyx.config.model_validate({"verify": "key", "accounts": APPLICATIONS})
    gateway.node.carriers["telnyx"] = telnyx.carrier(config, public_url=gateway.node.public_url)
    return gateway


@pytest.fixture(params=["1", "2"])
def application(request) -> dict[str, str]:
    """A call's own fields, by either of them."""
    return {**CALL, "ConnectionId": request.param}


async def ring(gateway, call: dict[str, str]) -> httpx.Response:
    key = {"1": "the first's", "2": "its old one"}[call["ConnectionId"]]
    answer = await gateway.http.post(
        "/webhooks/telnyx/voice", params={"key": key}, data=call | {"CallStatus": "ringing"}
    )
    assert answer.status_code == 200
    return answer


def urls_in(answer: httpx.Response, where: str) -> list[str]:
    """Where the carrier is told to go next: `where` it stands in the markup."""
    return [str(url) for url in etree.fromstring(answer.content).xpath(where)]


async def test_what_a_stream_is_answered_with_is_believed(by_key, application):
    answer = await ring(by_key, application)
    [resume] = urls_in(answer, "//Redirect/text()")
    [status] = urls_in(answer, "//Stream/@statusCallback")
    event = application | {"StreamEvent": "stream-started", "StreamSid": "s"}
    assert (await by_key.http.post(status, data=event)).status_code == 200
    attached = await by_key.http.post(resume, data=application | {"CallStatus": "in-progress"})
    assert attached.status_code == 200
    [again] = urls_in(attached, "//Redirect/text()")
    assert (await by_key.http.post(again, data=application | {"CallStatus": "in-progress"})).status_code == 200


@pytest.mark.parametrize(
    ("what", "where"),
    [(Continuation("dial", "+15550123", 99), "//Dial/@action"), (Continuation("digits", "1", 99), "//Redirect/text()")],
)
async def test_what_a_continuation_is_answered_with_is_believed(by_key, application, what, where):
    [resume] = urls_in(await ring(by_key, application), "//Redirect/text()")
    session = by_key.node.signer.session_id("telnyx", application["ConnectionId"], CALL["CallSid"])
    await by_key.node.registry.merge(session, FactEvent(continuation=what))
    answer = await by_key.http.post(resume, data=application | {"CallStatus": "in-progress"})
    [back] = urls_in(answer, where)
    over = application | {"CallStatus": "in-progress", "DialCallStatus": "busy"}
    assert (await by_key.http.post(back, data=over)).status_code == 200


@pytest.fixture
def service(service):
    """Whoever finds it full is sent to somebody else."""
    return replace(service, when_full=Fallback("forward", to="+15550199"))


async def test_what_a_forwarded_caller_is_answered_with_is_believed(by_key, application):
    by_key.node.refusing = True
    [back] = urls_in(await ring(by_key, application), "//Dial/@action")
    answer = await by_key.http.post(back, data=application | {"CallStatus": "in-progress"})
    assert (answer.status_code, [e.tag for e in etree.fromstring(answer.content)]) == (200, ["Hangup"])
