"""Print the lowest version allowed of each dependency, as constraints for pip: `python -m tests.kit.floors > file`.

With the name of an extra, as `pipecat`, those of that extra alone.

`make floor-test` installs exactly these and runs the tests that touch the dependencies, so that the floors in
pyproject.toml are versions that were tried.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def floors(requirements: list[str]) -> list[str]:
    """`name==version` for each `name>=version,…`. Raises ValueError for one without a floor."""
    pinned = []
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?>=([0-9][^,;\s]*)(,<[^,;\s]+)?", requirement)
        if match is None:
            raise ValueError(f"{requirement!r} has no floor")
        pinned.append(f"{match[1]}=={match[2]}")
    return pinned


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    requirements = project["optional-dependencies"][sys.argv[1]] if sys.argv[1:] else project["dependencies"]
    sys.stdout.write("\n".join(floors(requirements)) + "\n")


if __name__ == "__main__":
    main()
