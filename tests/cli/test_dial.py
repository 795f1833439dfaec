"""`gateway dial`: a call through a gateway's API, step by step, with an exit status that says what became of it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.__main__ import main
from gateway.cli import follow as followed
from gateway.cli.follow import Order, follow
from tests.kit.http_server import serving
from tests.kit.waiting import until

RECORD = {
    "session_id": "abc",
    "status": "ringing",
    "answered_at": None,
    "duration_s": None,
    "end_reason": None,
    "machine": None,
}
ANSWERED = {**RECORD, "status": "answered", "answered_at": "2026-01-31T12:00:00.000Z", "machine": "human"}
ENDED = {**ANSWERED, "status": "ended", "end_reason": "bot_hangup", "duration_s": 12.5}
BUSY = {**RECORD, "status": "ended", "end_reason": "busy"}


class Told:
    """A gateway's API that tells these records, one a look; the last one for ever."""

    def __init__(self, *records: dict, status: int = 201, problem: dict | None = None) -> None:
        self.records = list(records)
        self.status = status
        self.problem = problem
        self.orders: list[dict] = []
        self.hung_up = 0

    async def place(self, request) -> JSONResponse:
        self.orders.append({**await request.json(), "key": request.headers["authorization"]})
        assert request.headers["idempotency-key"]
        said = self.problem or {"session_id": "abc", "call_id": None, "status": "ringing"}
        return JSONResponse(said, self.status, headers={"retry-after": "7"} if self.status == 429 else {})

    async def look(self, request) -> JSONResponse:
        record = self.records.pop(0) if len(self.records) > 1 else self.records[0]
        return JSONResponse(record, 200 if record else 503)

    async def hangup(self, request) -> JSONResponse:
        self.hung_up += 1
        self.records = [ENDED]
        return JSONResponse({"session_id": "abc", "status": "accepted"}, 202)

    @asynccontextmanager
    async def serving(self):
        routes = [
            Route("/v1/calls", self.place, methods=["POST"]),
            Route("/v1/calls/abc", self.look),
            Route("/v1/calls/abc/hangup", self.hangup, methods=["POST"]),
        ]
        async with serving(app=Starlette(routes=routes)) as served:
            yield f"http://127.0.0.1:{served.port}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(followed, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(followed, "AWAY_SECONDS", 0.2)


async def dialled(told: Told, *, as_json: bool = False) -> tuple[int, str, str]:
    out, say = io.StringIO(), io.StringIO()
    async with told.serving() as url:
        status = await follow(Order(url, "k", {"to": "+15550100001"}), as_json=as_json, out=out, say=say)
    return status, out.getvalue(), say.getvalue()


def steps(out: str) -> list[str]:
    return [line[10:] for line in out.splitlines()]


async def test_a_call_is_followed_to_its_end():
    told = Told(RECORD, ANSWERED, ANSWERED, ENDED)
    status, out, say = await dialled(told)
    assert (status, say) == (0, "")
    assert steps(out) == [
        "session     abc",
        "ringing",
        "answered    by a human",
        "ended       bot_hangup after 12.5 s",
    ]
    assert told.orders == [{"to": "+15550100001", "key": "Bearer k"}]


async def test_a_call_that_was_answered_between_two_looks():
    status, out, _ = await dialled(Told(RECORD, ENDED))
    assert (status, steps(out)[2]) == (0, "answered    by a human")


async def test_a_call_that_nobody_takes_falls_short():
    status, out, _ = await dialled(Told(RECORD, BUSY))
    assert (status, steps(out)[-1]) == (1, "ended       busy")


async def test_json_is_the_record_alone():
    status, out, say = await dialled(Told(RECORD, ENDED), as_json=True)
    assert (status, json.loads(out)) == (0, ENDED)
    assert steps(say)[-1].startswith("ended")


@pytest.mark.parametrize(("answer", "status"), [(401, 2), (403, 2), (422, 2), (409, 1), (429, 1), (502, 1), (503, 1)])
async def test_a_refusal_is_one_line(answer, status):
    told = Told(RECORD, status=answer, problem={"detail": "It is so.", "status": answer})
    got, out, say = await dialled(told)
    again = " Try again in 7 s." if answer == 429 else ""
    assert (got, out, say) == (status, "", f"gateway dial: refused: It is so.{again}\n")


async def test_another_server_is_told_by_its_words():
    status, _, say = await dialled(Told(RECORD, status=404, problem={"error": "x"}))
    assert status == 1 and "is this its URL?" in say


async def test_no_gateway_at_all():
    out, say = io.StringIO(), io.StringIO()
    order = Order("http://127.0.0.1:1", "k", {})
    assert await follow(order, as_json=False, out=out, say=say) == 1
    assert say.getvalue().startswith("gateway dial: --url: no gateway answers at http://127.0.0.1:1")


async def test_a_gateway_that_is_gone_for_good():
    status, out, _ = await dialled(Told({}))
    assert status == 1 and steps(out)[-1].startswith("lost")


async def interrupted(told: Told, times: int) -> tuple[int, list[str]]:
    out = io.StringIO()
    async with told.serving() as url:
        task = asyncio.create_task(follow(Order(url, "k", {}), as_json=False, out=out, say=out))
        await until(lambda: "answered" in out.getvalue())
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
        return await task, steps(out.getvalue())


async def test_ctrl_c_hangs_up():
    told = Told(ANSWERED)
    status, said = await interrupted(told, 1)
    assert (status, told.hung_up) == (0, 1)
    assert said[-1] == "ended       bot_hangup after 12.5 s"


async def test_two_at_once_are_one():
    told = Told(ANSWERED)
    status, _ = await interrupted(told, 2)
    assert (status, told.hung_up) == (0, 1)


async def test_a_second_one_leaves_the_call_alone(monkeypatch):
    monkeypatch.setattr(followed, "TWICE_SECONDS", -1.0)
    status, said = await interrupted(Told(ANSWERED), 2)
    assert status == 1 and said[-1] == "left        the call goes on without us"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["12", "--from", "+15550100"], "TO: '12' is no telephone number"),
        (["+15550100001", "--from", "x"], "--from: 'x' is no telephone number"),
        (["+15550100001"], "--from"),
        (["+15550100001", "--from", "+15550100000", "--body", "[1]"], "--body: is no JSON object"),
        (["+15550100001", "--from", "+15550100000", "--url", "x"], "--url"),
        (["+15550100001", "--from", "+15550100000"], "--key: is missing"),
    ],
)
def test_what_is_called_wrongly_is_one_line(capsys, monkeypatch, arguments, says):
    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    try:
        status = main(["dial", *arguments])
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr().err
    assert status == 2 and says in said and said.count("\n") == 1


def test_the_key_may_be_that_of_the_settings(tmp_path, monkeypatch):
    from gateway.__main__ import parser
    from gateway.cli.dial import _order

    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)
    file = tmp_path / "gateway.toml"
    file.write_text('[api]\nkeys = [{ key = "reader", scopes = ["calls:read"] }, "0123456789abcdef"]\n')
    arguments = ["dial", "+1 555 010 0001", "--from", "+15550100000", "--carrier", "twilio", "--config", str(file)]
    order = _order(parser().parse_args([*arguments, "--body", '{"a": 1}', "--max-seconds", "60"]))
    assert order.key == "0123456789abcdef" and order.key not in repr(order)
    said = {"to": "+15550100001", "from": "+15550100000", "carrier": "twilio", "body": {"a": 1}, "max_call_seconds": 60}
    assert order.call == {**said, "machine_detection": "off"}
