"""One gateway for each test module: all four carriers with credentials, an echo bot, unless a module says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.program import Gateway, service, settings
from tests.kit.bots import place_bot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def echo_bot(folder: Path) -> Path:
    return place_bot("echo", folder)


@pytest.fixture(scope="module")
def gateway(folder: Path, echo_bot: Path) -> Iterator[Gateway]:
    with Gateway.of(folder, settings(service("echo.acme", echo_bot, default=True, min_warm=4))) as running:
        yield running
