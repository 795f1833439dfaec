"""The lowest versions of dependencies that are allowed."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.kit.floors import PYPROJECT, floors, main


def as_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def allowed() -> dict[str, str]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return dict(line.split("==") for line in floors(project["dependencies"]))


def test_every_dependency_has_a_floor() -> None:
    with pytest.raises(ValueError, match="has no floor"):
        floors(["lxml"])
    assert floors(["lxml>=5.3,<7", "redis>=5"]) == ["lxml==5.3", "redis==5"]
    for name, lowest in allowed().items():
        assert as_numbers(version(name)) >= as_numbers(lowest), name


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        ("websockets", "16.1"),  # before, a line break in a header value was sent
        ("python-multipart", "0.0.27"),  # CVE-2026-42561: a part's header of any length
        ("starlette", "0.49.1"),  # CVE-2025-62727: ranges
    ],
)
def test_no_version_with_a_known_fault_is_allowed(name: str, mended: str) -> None:
    assert as_numbers(allowed()[name]) >= as_numbers(mended)


def test_ci_runs_the_tests_on_the_floors() -> None:
    root = Path(PYPROJECT).parent
    assert "make floor-test" in (root / ".ci" / "run").read_text()
    assert "python -m tests.kit.floors" in (root / "Makefile").read_text().replace("$(PYTHON)", "python")


def test_ci_runs_the_tests_beside_the_lowest_and_the_newest_pipecat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(PYPROJECT).parent
    assert "make pipecat-test" in (root / ".ci" / "run").read_text()
    assert "tests.kit.floors pipecat" in (root / "Makefile").read_text()
    monkeypatch.setattr(sys, "argv", ["floors", "pipecat"])
    main()
    assert re.fullmatch(r"pipecat-ai==[0-9.]+\n", capsys.readouterr().out)
