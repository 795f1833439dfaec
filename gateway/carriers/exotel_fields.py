"""How Exotel writes its webhooks: their fields, and what these mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.carriers.base import HttpRequest, Kind, in_table
from gateway.carriers.form import Fields, WebhookSchema, read_query, readable
from gateway.carriers.parameters import OwnParameters, own_names
from serializers.call_data import RESERVED_PREFIX
from serializers.exotel import ExotelSerializer

SCHEMA = WebhookSchema(
    core=frozenset({"CallSid", "CallFrom", "CallTo", "Direction", "AccountSid", "Status", "EventType", "Stream"}),
    call_id=("CallSid",),
    ids=ExotelSerializer.ids,
    known=frozenset(
        {
            "AnsweredBy",
            "CallStatus",
            "CallType",
            "CallerName",
            "ConversationDuration",
            "Created",
            "CurrentTime",
            "CustomField",
            "DateCreated",
            "DateUpdated",
            "DialCallDuration",
            "DialCallStatus",
            "DialWhomNumber",
            "DisconnectedBy",
            "EndTime",
            "ForwardedFrom",
            "From",
            "HangupLatencyStartTime",
            "HangupLatencyStartTimeExocc",
            "PhoneNumberSid",
            "ProcessStatus",
            "RecordingUrl",
            "StartTime",
            "StreamSid",
            "StreamUrl",
            "To",
            "digits",
            "flow_id",
            "passthru",
            "tenant_id",
        }
    ),
    known_prefixes=("Stream[", "Legs[", "RecordingAvailableBy", "OutgoingPhoneNumber"),
    multipart=True,
)

CALL_STATUS = {
    "queued": "ringing",
    "ringing": "ringing",
    "in-progress": "answered",
    "answered": "answered",
    "terminal": "ended",  # EventType
    "completed": "ended",
    "busy": "ended",
    "no-answer": "ended",
    "failed": "ended",
    "canceled": "ended",
}
OUTCOME = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "canceled",
}
STREAM_STATE = {
    "stream-start": "started",
    "started": "started",
    "stream-stop": "stopped",
    "stopped": "stopped",
    "completed": "stopped",
    "failed": "failed",
}

CUSTOM_FIELD_LIMIT = 128
"""Characters of CustomField."""


def parties(fields: Fields, outbound: bool) -> tuple[str, str]:
    """Raw (from, to).

    CallFrom and CallTo come first, as To may be a third number. For an outbound call Exotel's "from" is the
    person whom it dials and "to" the ExoPhone (capture of a dynamic URL; `From` of the REST API likewise):
    turned round here, so that `from` is ours on every carrier. Status callbacks name the person in From and
    the ExoPhone, where they do, in PhoneNumberSid; their To is the ExoPhone, or empty.
    """
    person, exophone = fields.one("CallFrom", "From"), fields.one("CallTo", "PhoneNumberSid", "To")
    return (exophone, person) if outbound else (person, exophone)


def stream_report(fields: Fields) -> dict[str, str]:
    """Read what Passthru says of the Voicebot before it.

    As `Stream[Status]=…`, or as one JSON object, as text or as it is.

    Names in lower case.
    """
    found: Any = fields.tree.get("Stream")
    if not isinstance(found, dict):
        try:
            found = orjson.loads(fields.one("Stream") or b"{}")
        except orjson.JSONDecodeError:
            found = {}
    if not isinstance(found, dict):
        found = {}
    nested = {
        name[len("Stream[") : -1]: readable(value)
        for name, value in fields.pairs()
        if name.startswith("Stream[") and name.endswith("]")
    }
    return {name.lower(): value for name, value in (found | nested).items() if isinstance(value, str)}


def kind_of(request: HttpRequest, fields: Fields, stream: Mapping[str, str]) -> Kind:
    if request.method == "GET" or stream or fields.one("CallFrom"):  # an applet asks
        return Kind.VOICE
    if fields.one("EventType").lower().startswith("stream"):
        return Kind.STREAM
    return Kind.STATUS if in_table(CALL_STATUS, fields.one("Status", "CallStatus", "EventType")) else Kind.OTHER


def own_in(custom_field: str) -> dict[str, str]:
    """Read our parameters in a CustomField that we wrote (`exotel_rest.place`); {} for one that is the user's."""
    fields = read_query(custom_field) if custom_field.startswith(RESERVED_PREFIX) else Fields()
    if not isinstance(fields, Fields) or not all(name.startswith(RESERVED_PREFIX) for name in fields):
        return {}
    return {name: fields.one(name) for name in fields}


def own_parameters(request: HttpRequest, custom_field: str) -> OwnParameters:
    """Our parameters in the URL and, where the URL is a flow's and says nothing of the call, in CustomField."""
    query = read_query(request.query)
    in_url = {name: query.one(name) for name in own_names(query)} if isinstance(query, Fields) else {}
    return OwnParameters.read({**own_in(custom_field), **in_url})
