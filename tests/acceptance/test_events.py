"""What happens to calls is told to an endpoint, though it fails and the gateway is killed meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.acceptance.program import Gateway, run
from tests.kit.waiting import until
from tests.outbox.receiver import OK, SECRET, Got, Receiver, receiving, status

WHOLE = ["call.ringing", "call.answered", "call.ended"]


def types_by_call(receiver: Receiver) -> dict[object, list[object]]:
    """Of each call what arrived, in the order of the first arrivals."""
    first: dict[str, Got] = {}
    for got in receiver.took:
        first.setdefault(got.id, got)
    calls: dict[object, list[object]] = {}
    for got in first.values():
        record = got.data["data"]
        assert isinstance(record, dict)
        calls.setdefault(record["session_id"], []).append(got.data["type"])
    return calls


async def call(gateway: Gateway, carrier: str) -> None:
    done = await asyncio.to_thread(run, "call", "--carrier", carrier, "--url", gateway.url, "--seconds", "0.3")
    assert done.returncode == 0, done.stdout + done.stderr


async def test_every_event_arrives_signed_and_in_order(tmp_path: Path) -> None:
    async with receiving() as receiver:
        config = f'''
records = "sqlite+aiosqlite:///{tmp_path}/gateway.db"
[server]
ops_bind = "127.0.0.1:0"
overload_lag_ms = 1000
[[events]]
url = "{receiver.url}"
secret = "{SECRET}"
'''
        first = await asyncio.to_thread(Gateway.of, tmp_path, config, "--dev")
        with first:
            await call(first, "twilio")
            await until(lambda: list(types_by_call(receiver).values()) == [WHOLE])
            receiver.answer = lambda _: status(503)
            await call(first, "telnyx")
            await until(lambda: len(receiver.asked) > len(receiver.took))
            first.assert_clean(SECRET)
            first.kill()
        receiver.answer = lambda _: OK
        second = await asyncio.to_thread(Gateway.of, tmp_path, config, "--dev")
        with second:
            await until(lambda: list(types_by_call(receiver).values()) == [WHOLE, WHOLE], 40)
            second.assert_clean(SECRET)
    assert receiver.forged == []
    ended = [got.data["data"] for got in receiver.took if got.data["type"] == "call.ended"]
    assert all(isinstance(record, dict) and record["status"] == "ended" for record in ended)
