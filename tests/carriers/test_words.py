from __future__ import annotations

import pytest

from gateway.carriers import words


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("queued", "ringing"),
        ("ringing", "ringing"),
        ("in-progress", "answered"),
        ("In_Progress", "answered"),
        ("completed", "ended"),
        ("no-answer", "ended"),
        ("timeout", "ended"),
        ("cancel", "ended"),
        ("terminal", "ended"),
        ("", ""),
        ("something new", ""),
    ],
)
def test_call_status(raw: str, status: str) -> None:
    assert words.call_status(raw) == status


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        ("completed", "completed"),
        ("busy", "busy"),
        ("no-answer", "no-answer"),
        ("timeout", "no-answer"),
        ("cancel", "canceled"),
        ("canceled", "canceled"),
        ("failed", "failed"),
        ("ringing", ""),
    ],
)
def test_outcome(raw: str, outcome: str) -> None:
    assert words.outcome(raw) == outcome


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        ("stream-started", "started"),
        ("StartStream", "started"),
        ("started", "started"),
        ("stream-stopped", "stopped"),
        ("StopStream", "stopped"),
        ("stream-error", "failed"),
        ("stream-failed", "failed"),
        ("DroppedStream", "failed"),
        ("DegradedStream", "degraded"),
        ("Hangup", ""),
    ],
)
def test_stream_state(raw: str, state: str) -> None:
    assert words.stream_state(raw) == state


@pytest.mark.parametrize(
    ("raw", "who"),
    [
        ("human", "human"),
        ("human_residence", "human"),
        ("machine_end_beep", "machine"),
        ("fax", "machine"),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_answered_by(raw: str, who: str) -> None:
    assert words.answered_by(raw) == who
