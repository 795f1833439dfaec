"""Telnyx' REST API, v2: place a TeXML call, ask for it, end it.

A call is placed as a TeXML call, so that its answers are the same markup as those of calls that come in; its CallSid is
a call_control_id, by which Call Control ends it and tells of it without the account's id.

https://developers.telnyx.com/api-reference/texml-rest-commands/create-a-connection-scoped-texml-call
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RefusalKind, RestCall
from gateway.carriers.rest_answers import is_accepted, json_object, member, refusal, text_at, time_at
from serializers.base import IdPatterns

EVENTS = "initiated ringing answered completed"
RING_SECONDS = (5, 120)
CALL_SECONDS = (30, 14400)
"""At least and at most: Telnyx refuses the order for others."""
_DETECTION = {"detect": "Enable", "message_end": "DetectMessageEnd"}
_GONE = ("90018", "90015")
"""Ended already; no such call."""
_KINDS: Mapping[str, RefusalKind] = {
    "10002": "invalid",  # a number
    "10009": "auth",
    "10010": "refused",  # the outbound profile does not allow it
    "10011": "rate",
    "10015": "invalid",
    "10016": "invalid",  # not E.164
}


def place(base: str, key: str, connection_id: str, order: CallOrder) -> RestCall:
    """Make the request that places a call. The names are case-sensitive."""
    body: dict[str, Any] = {
        "To": order.to,
        "From": order.from_number,
        "Url": order.answer_url,
        "Method": "POST",
        "StatusCallback": order.status_url,
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": EVENTS,
        "Timeout": _within(order.ring_seconds, RING_SECONDS),
        "TimeLimit": _within(order.max_seconds, CALL_SECONDS),
    }
    if order.machine_detection != "off":
        # Else the markup, and with it the bot, would wait for the verdict.
        body["MachineDetection"] = _DETECTION[order.machine_detection]
        body["AsyncAmd"] = True
        body["AsyncAmdStatusCallback"] = order.status_url
        body["AsyncAmdStatusCallbackMethod"] = "POST"
    return RestCall("POST", f"{base}/v2/texml/calls/{quote(connection_id, safe='')}", headers=_bearer(key), json=body)


def read_placed(status: int, body: bytes, headers: Mapping[str, str], ids: IdPatterns) -> Placed | CarrierRefusal:
    """Read the answer to it: flat, or in `data` as the rest of their API has it."""
    answer = json_object(body)
    if is_accepted(status):
        places = (("call_sid",), ("sid",), ("data", "call_sid"), ("data", "call_control_id"))
        found = (text_at(answer, *place) for place in places)
        return Placed(next((call_id for call_id in found if ids.is_call(call_id)), ""))
    title, detail = text_at(answer, "errors", 0, "title"), text_at(answer, "errors", 0, "detail")
    text = detail or title
    return refusal(status, headers, code=text_at(answer, "errors", 0, "code"), text=text, kinds=_KINDS)


def hang_up(base: str, key: str, call_id: str) -> RestCall:
    """Make the request that ends a call in any state."""
    return RestCall("POST", f"{_call_url(base, call_id)}/actions/hangup", headers=_bearer(key), json={}, done=_GONE)


def ask(base: str, key: str, call_id: str) -> RestCall:
    """Make the request for the state of a call."""
    return RestCall("GET", _call_url(base, call_id), headers=_bearer(key))


def read_state(status: int, body: bytes) -> CallState:
    """Read the answer to it.

    Telnyx says only whether a call lives ("answered" here, also while it rings) or has ended, and not how.
    """
    answer = json_object(body)
    if is_accepted(status):
        alive, ended = member(answer, "data", "is_alive"), text_at(answer, "data", "end_time")
        if alive is True:
            return CallState("answered")
        # One that is being dialled is not alive either, but it has no end.
        if alive is False and ended:
            return CallState("ended", ended=time_at(answer, "data", "end_time"))
        return CallState()
    over = any(text_at(answer, "errors", 0, "code") == code for code in _GONE)
    return CallState("ended") if over else CallState()


def _call_url(base: str, call_id: str) -> str:
    # A call_control_id has colons.
    return f"{base}/v2/calls/{quote(call_id, safe='')}"


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _within(seconds: int, limits: tuple[int, int]) -> int:
    return min(max(seconds, limits[0]), limits[1])
