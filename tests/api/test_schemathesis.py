"""schemathesis against a running gateway: everything that the description allows, and much that it does not.

It looks for server errors, answers that the description does not have, wrong requests that are taken and right ones
that are not, methods that are not refused, and doors that open without a key.
"""

from __future__ import annotations

import asyncio
import os
import sys

from gateway.api.parts import Api
from gateway.records.database import migrate, open_engine
from gateway.records.store import DatabaseStore
from gateway.serve.app import make_app
from gateway.simulator.rest import Plan
from tests.api.serving import KEY, KEYS
from tests.dialout.rig import rig
from tests.kit.http_server import serving

EXAMPLES = 4
"""Of each operation and kind. More find no more, and take a minute."""


async def test_it_finds_nothing(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    async with rig(tmp_path, plan=Plan(rings=0.02)) as rigged:
        [gateway] = rigged.gateways
        api = Api(gateway.sessions, KEYS, gateway.dialout, DatabaseStore(engine))
        async with serving(app=make_app(gateway.sessions, lambda: True, api), keep_alive=30.0) as served:
            url = f"http://127.0.0.1:{served.port}"
            command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
            command += [f"{url}/v1/openapi.json", "--url", url, "--header", f"Authorization: Bearer {KEY}"]
            command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none", "--no-color"]
            command += ["--exclude-path", "/v1/events"]  # it would wait for the end of a stream that has none
            run = await asyncio.create_subprocess_exec(
                *command,
                cwd=tmp_path,
                env={**os.environ, "COLUMNS": "120"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await run.communicate()
    await engine.dispose()
    assert run.returncode == 0, said.decode()
