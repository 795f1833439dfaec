"""A minute of random faults under 20 calls: the promises hold, and nothing is left behind."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.cluster.chaos import chaos
from tests.cluster.rig import Cluster
from tests.cluster.table import REPORTS

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))


@pytest.mark.cluster
async def test_a_minute_of_random_faults(tmp_path: Path) -> None:
    """CHAOS_SEED repeats a run, as far as processes can be told what to do when."""
    async with Cluster(tmp_path, haproxy=True, warm=8, most=60) as cluster:
        report = await chaos(cluster, seconds=60, calls=20, seed=SEED)
    REPORTS.append(str(report))
    story = "\n".join((str(report), *report.log))
    assert not report.lost, "\n".join((story, *map(str, report.lost)))
    assert not report.two_bots, "\n".join((story, *map(str, report.two_bots)))
    assert not report.left, story
