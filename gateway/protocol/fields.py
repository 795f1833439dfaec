"""Reading fields of a JSON object that somebody else wrote: the wrong type reads as if it were not there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson


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


def seconds_of(m: Mapping[str, Any], key: str, default: float) -> float:
    """m[key] if it is a positive number, else `default`."""
    value = m.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
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
