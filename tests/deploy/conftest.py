"""What is marked `cluster` needs HAProxy and Redis, and runs only when asked for: `pytest -m cluster tests/deploy`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    asked = [item for item in items if HERE in item.path.parents and item.get_closest_marker("cluster")]
    if asked:
        config.hook.pytest_deselected(items=asked)
        items[:] = [item for item in items if item not in asked]
