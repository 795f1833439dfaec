"""What carriers send, to the letter: each file once, for the tests of every room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def golden_bytes(name: str) -> bytes:
    """Read a request's body, or a URL."""
    return (FOLDER / name).read_bytes()


def golden_lines(name: str) -> list[str]:
    """Read the messages of a stream, one a line."""
    return (FOLDER / name).read_text().splitlines()


VECTORS: dict[str, Any] = json.loads(golden_bytes("signature-vectors.json"))
"""Signed requests by carrier, valid and not."""
