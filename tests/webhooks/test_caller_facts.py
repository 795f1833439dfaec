"""What the carrier knows of the caller reaches the bot."""

from __future__ import annotations

from tests.kit.node import start
from tests.waiting import until


async def test_what_the_carrier_knows_of_the_caller_is_in_the_call_data(gateway):
    answer = await gateway.voice(
        "CA1",
        CallerName="ACME INC",
        ForwardedFrom="+15550100009",
        StirVerstat="TN-Validation-Passed-A",
        SipHeader_X_Campaign="spring",
    )
    carrier = await gateway.open(gateway.path_in(answer))
    carrier.send(start("CA1"))
    await gateway.started()
    [told] = gateway.starts()
    call = told["call"]
    assert (call["caller_name"], call["forwarded_from"], call["stir"]) == ("ACME INC", "+15550100009", "A")
    assert "spring" in call["sip_headers"].values()


async def test_who_answered_is_a_status(gateway):
    await gateway.call("CA1")
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    form = {"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "in-progress", "AnsweredBy": "machine_start"}
    await gateway.http.post("/webhooks/twilio/status", data=form)
    await until(lambda: [told["status"] for told in bot.of("status")] == ["machine"])
