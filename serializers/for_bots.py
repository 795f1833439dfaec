"""A carrier's handshake as a bot may read it that speaks the wire itself: without what is the gateway's own.

A static stream's key travels in the URL, and Exotel hands a URL's parameters on as custom ones. A bot is not to
have it: with the key anybody could open streams.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from serializers.call_data import is_own_parameter

MAX_DEPTH = 8
PARAMETERS = frozenset({"customparameters", "extraheaders"})
"""Names of the members that hold custom parameters, folded."""

_IN_TEXT = re.compile(r"(^|[?&;,{]\s*)(?:X-PH-)?(?:key|gw_\w*)\s*[=:][^&;,}]*")
"""A parameter of ours among others in a text: `key=…&a=b`, `a=b;key=…`, `{a: b, key: …}`."""
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_IN_PATH = re.compile(r"(/ws/[a-z0-9_-]+/s/[^/?\s]*/)[^/?#\s]+")


def without_own_parameters(message: bytes) -> bytes:
    """Take the gateway's parameters out of a `start`. Any other message, or one that has none, stays as it is."""
    if b'"start"' not in message:
        return message
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        return message
    cleaned = _cleaned(fields, "", MAX_DEPTH)
    return message if cleaned == fields else orjson.dumps(cleaned)


def _cleaned(value: Any, name: str, depth: int) -> Any:
    if depth == 0:
        return value
    match value:
        case dict():
            own = name in PARAMETERS
            return {
                k: _cleaned(v, _folded(k), depth - 1) for k, v in value.items() if not (own and is_own_parameter(k))
            }
        case list():
            kept = [item for item in value if not (name in PARAMETERS and _is_own_entry(item))]
            return [_cleaned(item, "", depth - 1) for item in kept]
        case str():
            return _cleaned_text(value, name)
    return value


def _cleaned_text(text: str, name: str) -> str:
    if name in PARAMETERS:
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            return _without_parameters(text)
        cleaned = _cleaned(fields, name, MAX_DEPTH)
        return text if cleaned == fields else orjson.dumps(cleaned).decode()
    if "://" not in text:
        return text
    url, question, query = _IN_PATH.sub(r"\1-", _USER.sub("", text)).partition("?")
    return url + question + _without_parameters(query)


def _without_parameters(text: str) -> str:
    """Take ours out of a list of parameters, with what parts it from its neighbour."""
    cleaned = _IN_TEXT.sub(lambda found: found[1][:1] if found[1][:1] in ("?", "{") else "", text)
    return cleaned if cleaned == text else re.sub(r"^[&;,\s]+|(?<=[{])\s*[,;]\s*", "", cleaned)


def _is_own_entry(item: object) -> bool:
    """Whether this is one of ours in a list of {"name", "value"}."""
    return isinstance(item, dict) and isinstance(item.get("name"), str) and is_own_parameter(item["name"])


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
