"""A client of the user's own and a real Pipecat bot in a worker of ours: as at `/ws-client` of Pipecat's runner."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.acceptance.program import Gateway
from tests.kit.waiting import SCALE
from tests.pipecat.rig import API_KEY, HERE, SERVICE

pytestmark = pytest.mark.pipecat

SETTINGS = """
secret = "0123456789abcdef"
records = ""
[api]
keys = ["{key}"]
[[services]]
host = "{host}"
bot = "{bot}"
min_warm = 1
"""


async def test_its_bot_speaks_first_and_echoes_what_it_hears(tmp_path: Path) -> None:
    from pipecat.frames.frames import InputAudioRawFrame, InputTransportMessageFrame, OutputAudioRawFrame
    from pipecat.serializers.protobuf import ProtobufFrameSerializer

    wire, tone = ProtobufFrameSerializer(), bytes(range(64)) * 10
    config = SETTINGS.format(key=API_KEY, host=SERVICE, bot=HERE / "bots" / "client.py")
    with await asyncio.to_thread(Gateway.of, tmp_path, config, "--dev") as gateway:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as http:
            order = {"transport": "websocket", "body": {"user": "Ada"}}
            answer = await http.post(f"/v1/public/{SERVICE}/start", json=order)
            assert answer.status_code == 200, f"{answer.text}\n{gateway.text()[-4000:]}"
            started = answer.json()
            url = f"{gateway.url.replace('http', 'ws', 1)}/ws-client/{started['token']}"
            async with asyncio.timeout(30 * SCALE), connect(url) as client:
                said = await wire.deserialize(await client.recv())
                assert isinstance(said, InputTransportMessageFrame)
                assert json.loads(json.dumps(said.message)) == {"transport": "websocket", "body": {"user": "Ada"}}
                for _ in range(10):
                    sent = await wire.serialize(OutputAudioRawFrame(tone, 16000, 1))
                    assert isinstance(sent, bytes)
                    await client.send(sent)
                echo = b""
                while len(echo) < 5 * len(tone):
                    heard = await wire.deserialize(await client.recv())
                    if isinstance(heard, InputAudioRawFrame):
                        echo += heard.audio
                assert tone in echo
            listed = (await http.get(f"/v1/agents/{SERVICE}/sessions")).json()
    assert listed["sessions"] == [] or listed["sessions"][0]["sessionId"] == started["sessionId"]
    gateway.assert_clean()
