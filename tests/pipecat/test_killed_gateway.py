"""A gateway is killed under Pipecat bots: their calls come to another one, and the same bots go on there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cluster.rig import CARRIERS, CREDENTIALS, Cluster
from tests.kit.waiting import SCALE
from tests.pipecat.rig import account_variables, hum, place_bot

pytestmark = pytest.mark.pipecat


@pytest.mark.parametrize("style", ["by_hand", "with_transport"])
async def test_bots_survive_their_gateway(tmp_path: Path, style: str) -> None:
    bot = place_bot(style, tmp_path, "")
    variables = account_variables(CREDENTIALS) | {"TELNYX_API_KEY": "telnyx-api-key-of-the-tests"}
    cluster = Cluster(tmp_path, bot=bot, hosts=("h1",), warm=4, most=8, host_env=variables)
    (tmp_path / "rest_url").write_text(cluster.rest.url)
    async with cluster:
        cluster.balancer.preferred = "a"
        calls = cluster.start(*CARRIERS, seconds=9, audio=hum(9), within=2.0)
        await cluster.noted("connected", 4, 30)
        await asyncio.sleep(2)
        cluster.gateways["a"].kill()
        for call in await calls:
            assert call.whole, call
            assert len(call.report.opened) == 2, call
            assert call.gap < 3.0 * SCALE, call
            assert len(call.starts) == 1, call
        await cluster.until_used(0)
