"""Which carrier is this? For `/ws`, where the path does not say it.

Only `start` decides. "connected" differs too little: Exotel's pages show it with Twilio's members, Plivo has
none. Ask for each message until one answers, and give the serializer all of them from the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import orjson

from serializers.base import Serializer
from serializers.stream import MAX_MESSAGE

EARLY: Final = "early"
"""A stream's message that is no `start`: what came before it may be any carrier's."""

Detected: TypeAlias = type[Serializer] | Literal["early"] | None


def detect(message: str | bytes, serializers: Iterable[type[Serializer]]) -> Detected:
    """Find the first of these whose `start` the message is.

    EARLY before that; None for what no carrier sends. Never raises.

    The built-in carriers exclude each other, so that only a carrier from another package may depend on the order.
    """
    if len(message) > MAX_MESSAGE:
        return None
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    for serializer in serializers:
        if serializer.recognizes(fields):
            return serializer
    event = fields.get("event")
    return EARLY if isinstance(event, str) and event != "start" else None
