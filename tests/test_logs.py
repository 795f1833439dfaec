"""One line an event, and nothing private in it: by unit here, and with a whole call and some strangers below."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import httpx
import numpy as np
import pytest
import structlog

from gateway.logs import MAX_VALUE, configure
from gateway.simulator import CallPlan, Faults, place_call
from gateway.simulator.twilio import TwilioAccount
from tests.acceptance.program import SECRETS, TWILIO_SID, TWILIO_TOKEN, Gateway, service, settings
from tests.kit.bots import place_bot

PRIVATE = "what-the-caller-told-nobody-else"


@pytest.fixture
def stderr(capsys):
    """What has been logged since it was last asked. The process' logging is as before afterwards."""
    before = {
        name: (logger.level, logger.handlers[:], logger.propagate)
        for name in ("", "gateway", "serializers", "uvicorn", "uvicorn.error", "uvicorn.access")
        for logger in [logging.getLogger(name)]
    }
    config = structlog.get_config()
    yield lambda: capsys.readouterr().err
    structlog.configure(**config)
    for name, (level, handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def records(written: str) -> list[dict]:
    return [json.loads(line) for line in written.splitlines()]


def test_json_where_nobody_is_watching(stderr):
    configure()
    structlog.get_logger("gateway.a").info("session ended", reason="caller_hangup", calls=3)
    [record] = records(stderr())
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "session ended", "reason": "caller_hangup", "calls": 3, "level": "info"}


def test_lines_to_be_read_at_a_terminal(stderr, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure()
    structlog.get_logger("gateway.b").warning("worker lost", code=1006)
    [line] = stderr().splitlines()
    assert "worker lost" in line
    assert "1006" in line
    assert not line.startswith("{")


def test_what_a_task_of_a_call_logs_bears_its_session(stderr):
    configure(json=True)

    async def call(session: str) -> None:
        structlog.contextvars.bind_contextvars(session=session)
        await asyncio.sleep(0)
        structlog.get_logger("gateway.c").warning("refused", where="voice")
        logging.getLogger("gateway.d").warning("by a library's logger")

    async def both() -> None:
        await asyncio.gather(call("s1"), call("s2"))

    asyncio.run(both())
    structlog.get_logger("gateway.c").warning("none's")
    assert [r.get("session") for r in records(stderr())] == ["s1", "s1", "s2", "s2", None]


@pytest.mark.parametrize(
    "name",
    ["uvicorn.error", "uvicorn.access", "websockets.server", "httpx", "httpcore", "twilio.http_client", "asyncio"],
)
def test_libraries_speak_up_only_when_something_is_wrong(stderr, name):
    configure(json=True)
    logging.getLogger(name).info('"WebSocket /ws/twilio/%s" [accepted]', PRIVATE)
    assert stderr() == ""
    logging.getLogger(name).warning("something is wrong")
    [record] = records(stderr())
    assert (record["event"], record["level"]) == ("something is wrong", "warning")


def test_what_is_for_debugging_is_left_out(stderr):
    configure(json=True)
    structlog.get_logger("gateway.e").debug("a frame", payload=PRIVATE)
    logging.getLogger("gateway.e").debug("a frame: %s", PRIVATE)
    assert stderr() == ""


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("ours", [True, False])
def test_a_traceback_says_where_but_not_with_what(stderr, as_json, ours):
    configure(json=as_json)
    digits = PRIVATE
    try:
        len(digits) / 0
    except ZeroDivisionError as error:
        if ours:
            structlog.get_logger("gateway.f").error("task failed", exc_info=error)
        else:
            logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    text = stderr()
    assert "ZeroDivisionError" in text
    assert "test_logs.py" in text
    assert PRIVATE not in text
    if as_json:
        [record] = records(text)
        assert record["exception"][0]["exc_type"] == "ZeroDivisionError"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2Jgone", "a\rb", "nul\0", "x\u2028y", "\u202eevil"])
def test_a_strangers_word_stays_within_its_line(stderr, as_json, text):
    configure(json=as_json)
    structlog.get_logger("gateway.g").warning("status", detail=text)
    written = stderr()
    assert len(written.splitlines()) == 1
    assert text not in written
    assert written.rstrip("\n").isprintable()


def test_a_strangers_word_is_as_long_as_need_be(stderr):
    configure(json=True)
    structlog.get_logger("gateway.h").warning("status", detail="é" * 10_000)
    assert records(stderr())[0]["detail"] == "é" * MAX_VALUE + "…"


def test_configuring_twice_logs_once(stderr):
    configure(json=True)
    configure(json=True)
    structlog.get_logger("gateway.i").info("once")
    assert len(records(stderr())) == 1


# A whole call, and strangers.

CALLER, CALLED = "+15559876543", "+15551234567"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_logs_and_metrics_of_a_call_give_nothing_away(tmp_path):
    with Gateway.of(tmp_path, settings(service("a.b", place_bot("echo", tmp_path), default=True))) as gateway:
        ops = gateway.log("metrics and health")["ops"]
        plan = CallPlan(
            carrier="twilio",
            base_url=gateway.url,
            audio=np.zeros(4800, np.int16),
            credentials={"twilio": TwilioAccount(TWILIO_SID, TWILIO_TOKEN)},
            from_number=CALLER,
            to_number=CALLED,
            query={"pin": PRIVATE},
            faults=Faults(dtmf=((0.1, "7"), (0.2, "3")), bad_json=True),
            linger=0.2,
        )
        report = asyncio.run(place_call(plan))
        assert report.outcome == "completed"
        httpx.post(f"{gateway.url}/webhooks/twilio/voice/{PRIVATE}?key={PRIVATE}", data={"CallSid": PRIVATE})
        httpx.post(f"{gateway.url}/webhooks/{PRIVATE}/voice", data={"CallSid": PRIVATE})
        for path in (f"/ws/twilio/{PRIVATE}", f"/ws/{PRIVATE}", f"/{PRIVATE}", f"/ws?key={PRIVATE}"):
            assert httpx.get(gateway.url + path, headers=UPGRADE).status_code in (403, 404)
        ended = gateway.log("session ended")
        metrics = httpx.get(f"{ops}/metrics").text
        gateway.terminate()
        assert gateway.wait() == 0

        mine = [record for record in gateway.records() if record["event"] in ("session started", "bot joined")]
        assert [(r["session"], r["carrier"], r["service"]) for r in (*mine, ended)] == [
            (ended["session"], "twilio", "a.b")
        ] * 3
        refused = [record["where"] for record in gateway.records() if record["event"] == "refused"]
        assert refused.count("upgrade") == 4
        assert "voice" in refused
        gateway.assert_clean(PRIVATE, CALLER[-4:], CALLED[-4:])
        assert not [record for record in gateway.records() if {"digit", "digits", "path", "url", "body"} & set(record)]

    for private in (PRIVATE, CALLER[-4:], CALLED[-4:], ended["session"], TWILIO_SID, *SECRETS):
        assert private not in metrics, private
    for line in (
        'gateway_calls_total{carrier="twilio",outcome="caller_hangup",service_host="a.b"} 1.0',
        'gateway_first_audio_seconds_count{carrier="twilio"} 1.0',
        'gateway_bad_messages_total{carrier="twilio",reason="not_json"} 3.0',
        'gateway_rejected_total{reason="bad_token",where="upgrade"} 1.0',
        'gateway_claim_seconds_count{outcome="claimed"} 1.0',
        'gateway_worker_slots{service_host="a.b",state="cap"} 60.0',
    ):
        assert line in metrics.splitlines(), metrics
    for name in (
        'gateway_frames_total{carrier="twilio",direction="inbound"}',
        'gateway_transit_seconds_count{direction="outbound"}',
    ):
        assert float(metrics.split(name)[1].split()[0]) >= 1
