"""Read fields of a JSON object that a peer wrote: a wrong type reads as if the field were not there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson

MAX_SECONDS = 366 * 86400.0
"""No timeout of either protocol is longer; an event loop's timer refuses much more."""


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object in `text`, or None for anything else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def str_of(m: Mapping[str, Any], key: str) -> str:
    """m[key] if it is a string, else ""."""
    value = m.get(key)
    return value if isinstance(value, str) else ""


def int_of(m: Mapping[str, Any], key: str) -> int:
    """m[key] if it is a whole number, else 0."""
    value = m.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def count_of(m: Mapping[str, Any], key: str, most: int) -> int | None:
    """m[key] if it is a whole number from 0 to `most`, 0 if it is not there, else None."""
    value = int_of(m, key)
    return value if 0 <= value <= most else None


def name_of(m: Mapping[str, Any], key: str, longest: int) -> str | None:
    """m[key] if it is printable text of at most `longest` characters, "" if it is not there, else None."""
    value = str_of(m, key)
    return value if len(value) <= longest and value.isprintable() else None


def seconds_of(m: Mapping[str, Any], key: str, default: float) -> float:
    """m[key] if it is a positive number of at most MAX_SECONDS, else `default`."""
    value = m.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= MAX_SECONDS:
        return default
    return float(value)


def bytes_of(m: Mapping[str, Any], key: str) -> bytes | None:
    """m[key] out of standard base64, or None."""
    value = m.get(key)
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
