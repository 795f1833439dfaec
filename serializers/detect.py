"""Which carrier is this? For `/ws`, where the path does not say it.

Only `start` decides. "connected" differs too little: Exotel's pages show it with Twilio's members, Plivo has
none. Ask for each message until one answers, and give the serializer all of them from the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from serializers.base import Serializer
from serializers.exotel import ExotelSerializer
from serializers.fields import folded, text_of
from serializers.plivo import PlivoSerializer
from serializers.stream import MAX_MESSAGE
from serializers.telnyx import TelnyxSerializer
from serializers.twilio import TwilioSerializer

SERIALIZERS: Mapping[str, type[Serializer]] = {
    kind.carrier: kind for kind in (TwilioSerializer, TelnyxSerializer, PlivoSerializer, ExotelSerializer)
}


def detect(message: str | bytes) -> str | None:
    """The carrier whose `start` this message is; None if it is nobody's. Never raises."""
    if len(message) > MAX_MESSAGE:
        return None
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or fields.get("event", "start") != "start":
        return None
    start = fields.get("start")
    if not isinstance(start, dict):
        return None
    return _carrier_of(folded(fields), start, folded(start))


def _carrier_of(top: Mapping[str, Any], start: Mapping[str, Any], names: Mapping[str, Any]) -> str | None:
    """start: with its names as they came; names: the same, folded."""
    if text_of(names, "callcontrolid"):
        return TelnyxSerializer.carrier
    if text_of(names, "callid", "calluuid"):
        return PlivoSerializer.carrier
    if text_of(names, "callsid") and (text_of(names, "streamsid") or text_of(top, "streamsid")):
        return ExotelSerializer.carrier if _is_exotel(start, names) else TwilioSerializer.carrier
    return None


def _is_exotel(start: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
    """Exotel and Twilio share their members. Exotel's are in snake case as a rule, and only its `start` has
    numbers; where nothing says so, the account does: Twilio's begin with AC.
    """
    if "call_sid" in start or "custom_parameters" in start or "media_format" in start:
        return True
    if "from" in names or "to" in names:
        return True
    account = text_of(names, "accountsid")
    return bool(account) and not account.startswith("AC")
