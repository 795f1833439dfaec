"""A thousand random kills under 50 short calls: the promises hold, and nothing is left behind."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.cluster.kills import kills
from tests.cluster.rig import Cluster
from tests.cluster.table import REPORTS

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
KILLS = int(os.environ.get("KILLS") or 1000)


@pytest.mark.slow
async def test_a_thousand_kills(tmp_path: Path) -> None:
    """KILLS and CHAOS_SEED choose another number, and repeat a run as far as processes can be told what to do when."""
    async with Cluster(tmp_path, haproxy=True, warm=8, most=80) as cluster:
        report = await kills(cluster, count=KILLS, calls=50, seed=SEED)
    REPORTS.append(str(report))
    for wrong in (report.lost, report.two_bots):
        assert not wrong, "\n".join((str(report), *map(str, wrong)))
    assert not report.left and not report.leaking, str(report)
