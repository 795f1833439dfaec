"""docs/api.md and docs/pipecat-api.md: their examples do what it says, one after another, and their tables are true."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from gateway.api.keys import SCOPES
from gateway.api.parts import Api
from gateway.api.routes import OPERATIONS
from gateway.node.dial_policy import DialPolicy
from gateway.serve.app import make_app
from gateway.simulator.rest import Plan
from tests.api.serving import KEY, KEYS
from tests.dialout.rig import rig
from tests.kit.http_server import serving
from tests.kit.waiting import until

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "api.md").read_text() + (DOCS / "pipecat-api.md").read_text()
EXAMPLES = re.findall(r"```sh\n(.*?)```", TEXT, re.S)


def test_every_scope_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z:]+)` \|", TEXT, re.M)) == set(SCOPES)


def test_every_operation_is_mentioned() -> None:
    for operation in OPERATIONS:
        last = operation.path.replace("{number}", "+15550190001").rpartition("/")[2]
        assert last in TEXT or last == "{session_id}", operation.path


async def run(example: str, **environment: str) -> dict:
    shell = await asyncio.create_subprocess_exec(
        "bash", "-ec", example, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await shell.communicate()
    assert shell.returncode == 0
    return json.loads(said)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_examples_do_what_is_said(tmp_path) -> None:
    place, look, page, dtmf, transfer, hangup, start, client, agent, sessions = EXAMPLES
    plan = Plan(rings=0.02, dial_seconds=30.0)
    async with rig(tmp_path, plan=plan) as rigged:
        [gateway] = rigged.gateways
        gateway.node.dial_allowed = DialPolicy(("+1",))
        app = make_app(gateway.sessions, lambda: True, Api(gateway.sessions, KEYS, gateway.dialout))
        async with serving(app=app, keep_alive=30.0) as served:
            known = {"GATEWAY": f"http://127.0.0.1:{served.port}", "KEY": KEY}
            known["SESSION"] = (await run(place, **known))["session_id"]
            assert (await rigged.started())["call"]["body"] == {"order": 17}
            assert (await run(look, **known))["to"] == "+15550190001"
            assert [call["session_id"] for call in (await run(page, **known))["calls"]] == [known["SESSION"]]
            assert (await run(dtmf, **known))["status"] == "accepted"
            await rigged.bot.until("status")
            assert (await run(transfer, **known))["status"] == "accepted"
            await rigged.bot.until("stop")
            assert (await run(hangup, **known))["status"] in ("accepted", "ended")
            await until(lambda: rigged.dialled()[0].is_over, complain="the carrier has ended the call")
            known["AGENT"] = "support"
            assert (await run(start, **known))["wsUrl"]
            gateway.node.protocols["support.acme"] = "relay"
            assert "/ws-client/" in (await run(client, **known))["wsUrl"]
            assert (await run(agent, **known))["wsUrl"]
            assert (await run(sessions, **known))["total_count"] == 0
