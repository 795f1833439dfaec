"""What the tests of all commands run under."""

from __future__ import annotations

import os

import pytest

from tests.kit.processes import environment


@pytest.fixture(autouse=True)
def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The carriers' names in this machine's environment are no part of a test."""
    for key in set(os.environ) - set(environment()):
        monkeypatch.delenv(key)
