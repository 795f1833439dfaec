"""Names in a webhook's query: the author's may be called as ours once were, and none is lost."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.kit.node import start
from tests.webhooks.wires import EXOTEL_START, WIRES

AUTHORS = {"campaign": "x", "attempt": "40", "session": "s17", "after": "lunch"}
QUERY = "campaign=x&attempt=40&session=s17&after=lunch"
CALL = {
    "CallSid": "CA1",
    "AccountSid": "AC1",
    "From": "+15550100001",
    "To": "+15550100000",
    "CallStatus": "ringing",
    "Direction": "inbound",
}


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_authors_names_are_the_body_and_end_no_call(gateway, method):
    if method == "POST":
        answer = await gateway.http.post(f"/webhooks/twilio/voice?{QUERY}", data=CALL)
    else:
        answer = await gateway.http.get("/webhooks/twilio/voice", params={**AUTHORS, **CALL})
    assert "gw_attempt=1" in answer.text
    carrier = await gateway.open(gateway.path_in(answer))
    carrier.send(start())
    await gateway.started()
    assert gateway.starts()[0]["call"]["body"] == AUTHORS
    # The stream breaks, and the carrier comes to the URL that it was given.
    again = await gateway.resume(query="?gw_attempt=1")
    assert gateway.path_in(again).startswith("/ws/twilio/")


async def test_what_the_answer_adds_is_not_among_the_authors_on_exotel(gateway):
    answer = await gateway.http.get("/webhooks/exotel/voice", params={**WIRES["exotel"].voice, "campaign": "x"})
    url = urlsplit(answer.json()["url"])
    added = {name: value for name, [value] in parse_qs(url.query).items()}
    assert added == {"from_number": "+15550100001", "to_number": "+15550100000", "campaign": "x"}
    start = {**EXOTEL_START["start"], "custom_parameters": added}
    carrier = await gateway.open(f"{url.path}?{url.query}")
    carrier.send({**EXOTEL_START, "start": start})
    await gateway.started()
    said = gateway.starts()[0]["call"]
    assert (said["custom_parameters"], said["body"]) == ({"campaign": "x"}, {"campaign": "x"})
    assert (said["from"], said["to"]) == ("+15550100001", "+15550100000")


async def test_an_undecodable_byte_costs_its_field_and_not_the_call(gateway):
    body = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in CALL.items()) + "&CallerName=Jos%E9"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await gateway.http.post("/webhooks/twilio/voice", content=body, headers=headers)
    assert gateway.path_in(answer).startswith("/ws/twilio/")
