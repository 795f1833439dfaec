"""One cluster for each test module. What is marked `cluster` or `slow` runs when asked for: `make cluster-test`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.rig import Cluster
from tests.cluster.table import lines

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    asked = [item for item in items if HERE in item.path.parents and _is_long(item)]
    if asked:
        config.hook.pytest_deselected(items=asked)
        items[:] = [item for item in items if item not in asked]


def _is_long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("cluster", "slow"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `make cluster-test`."""
    for line in lines():
        terminalreporter.write_line(line)
