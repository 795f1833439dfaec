from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted gateway's echo needs no 300 ms to come back."""
    monkeypatch.setattr("gateway.simulator.speaker.TAIL", 0.05)
