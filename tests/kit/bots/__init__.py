"""Bots for the tests' gateways, each in a file of its own as a user's are, and what they have noted down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.kit.waiting import SECONDS, until

FOLDER = Path(__file__).parent
NEIGHBOURS = ("noting.py", "tones.py")
"""What bots import."""


def place_bot(name: str, folder: Path) -> Path:
    """Copy a bot into a folder: what it writes beside itself belongs to that test alone."""
    for neighbour in NEIGHBOURS:
        if not (folder / neighbour).exists():  # another bot's worker may be reading it
            shutil.copy(FOLDER / neighbour, folder / neighbour)
    return Path(shutil.copy(FOLDER / f"{name}.py", folder / f"{name}.py"))


def notes_of(bot: Path) -> list[dict[str, Any]]:
    """Read what a bot has noted down: one object for each whole line of the file beside it."""
    notes = bot.with_suffix(".jsonl")
    if not notes.exists():
        return []
    return [json.loads(line) for line in notes.read_text().splitlines(keepends=True) if line.endswith("\n")]


async def noted(bot: Path, call: str, what: str, count: int = 1, timeout: float = SECONDS) -> list[dict[str, Any]]:
    """Wait until the bot has noted `what` so often in this call; all that it has noted of it."""

    def notes() -> list[dict[str, Any]]:
        return [one for one in notes_of(bot) if one["call"] == call]

    def enough() -> list[dict[str, Any]]:
        found = notes()
        return found if sum(one["what"] == what for one in found) >= count else []

    return await until(enough, timeout, lambda: f"the bot never noted {count} of {what}: {notes()}")
