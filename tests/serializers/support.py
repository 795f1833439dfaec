"""What the serializers' tests share: golden messages, and the smallest streams that each carrier can open."""

from __future__ import annotations

import base64
import json
from typing import Any

from serializers.base import Media, Rejected, Serializer, Start
from serializers.exotel import ExotelSerializer
from serializers.plivo import PlivoSerializer
from serializers.telnyx import TelnyxSerializer
from serializers.twilio import TwilioSerializer

SERIALIZERS: dict[str, type[Serializer]] = {
    kind.carrier: kind for kind in (TwilioSerializer, TelnyxSerializer, PlivoSerializer, ExotelSerializer)
}


STARTS: dict[str, dict[str, Any]] = {
    "twilio": {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC00",
            "streamSid": "MZ00",
            "callSid": "CA00",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        },
        "streamSid": "MZ00",
    },
    "telnyx": {
        "event": "start",
        "sequence_number": "1",
        "start": {
            "user_id": "u-00",
            "call_control_id": "v3:00",
            "call_session_id": "s-00",
            "from": "+15550100005",
            "to": "+15550100006",
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        },
        "stream_id": "t-00",
    },
    "plivo": {
        "event": "start",
        "sequenceNumber": 1,
        "start": {
            "callId": "c-00",
            "streamId": "p-00",
            "accountId": "MA00",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        },
        "extra_headers": "",
    },
    "exotel": {
        "event": "start",
        "sequence_number": "1",
        "stream_sid": "e-00",
        "start": {
            "stream_sid": "e-00",
            "call_sid": "x-00",
            "account_sid": "acme1",
            "from": "05550100009",
            "to": "05550100010",
            "custom_parameters": {},
            "media_format": {"encoding": "raw", "sample_rate": "8000", "bit_rate": "128kbps"},
        },
    },
}

CARRIERS = tuple(STARTS)


def message(value: object) -> str:
    return json.dumps(value)


def media(audio: bytes, **members: object) -> str:
    """A media message that every carrier would understand."""
    payload = base64.b64encode(audio).decode()
    return message({"event": "media", "media": {"track": "inbound", "payload": payload, **members}})


def opened(carrier: str, **options: Any) -> Serializer:
    """A serializer whose stream has started."""
    serializer = SERIALIZERS[carrier](**options)
    events = serializer.decode(message(STARTS[carrier]))
    assert isinstance(events[0], Start)
    return serializer


def started(serializer: Serializer, value: object) -> Start:
    """The Start that comes of this message."""
    (event,) = serializer.decode(message(value))
    assert isinstance(event, Start)
    return event


def without(carrier: str, *names: str, **changed: object) -> dict[str, Any]:
    """The carrier's start with members of its `start` left out or changed."""
    whole = json.loads(json.dumps(STARTS[carrier]))
    for name in names:
        whole.pop(name, None)
        whole["start"].pop(name, None)
    whole["start"].update(changed)
    return whole


def reasons(events: object) -> list[str]:
    """Why messages were rejected."""
    assert isinstance(events, (list, tuple))
    return [event.reason for event in events if isinstance(event, Rejected)]


def payloads(events: object) -> list[bytes]:
    """The audio among the events."""
    assert isinstance(events, (list, tuple))
    return [event.payload for event in events if isinstance(event, Media)]


def members(value, path=()):
    """The paths of all members of a JSON object."""
    for key, inner in value.items():
        yield (*path, key)
        if isinstance(inner, dict):
            yield from members(inner, (*path, key))
