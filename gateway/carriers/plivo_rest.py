"""Plivo's REST API, v1: place a call, ask for it, end it.

https://docs.plivo.com/docs/voice/api/calls
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.carriers.base import in_table
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.rest_answers import is_accepted, json_object, refusal, state_of, text_at
from serializers.base import IdPatterns

CALL_STATUS = {
    "ringing": "ringing",
    "in-progress": "answered",
    "completed": "ended",
    "busy": "ended",
    "failed": "ended",
    "timeout": "ended",
    "no-answer": "ended",
    "cancel": "ended",
    "canceled": "ended",
}
OUTCOME = {
    "completed": "completed",
    "busy": "busy",
    "failed": "failed",
    "timeout": "no-answer",  # rang for as long as it was told to
    "no-answer": "no-answer",
    "cancel": "canceled",
    "canceled": "canceled",
}
MAX_RING_SECONDS = 600
MAX_CALL_SECONDS = 86400
_GONE = ("404",)
"""Over already."""


def place(base: str, auth_id: str, token: str, order: CallOrder) -> RestCall:
    """Make the request that places a call.

    Machine detection is always asynchronous, as it has a URL of its own, and knows no end of a message.
    """
    body: dict[str, Any] = {
        # Country code and number, without the plus: older documents forbid it, none wants it.
        "from": order.from_number.removeprefix("+"),
        "to": order.to.removeprefix("+"),
        "answer_url": order.answer_url,
        "answer_method": "POST",
        "ring_url": order.status_url,
        "ring_method": "POST",
        "hangup_url": order.status_url,
        "hangup_method": "POST",
        "ring_timeout": min(max(order.ring_seconds, 1), MAX_RING_SECONDS),
        "time_limit": min(max(order.max_seconds, 1), MAX_CALL_SECONDS),
    }
    if order.machine_detection != "off":
        body["machine_detection"] = "true"
        body["machine_detection_url"] = order.status_url
        body["machine_detection_method"] = "POST"
    return RestCall("POST", f"{_account_url(base, auth_id)}/Call/", auth=(auth_id, token), json=body)


def read_placed(status: int, body: bytes, headers: Mapping[str, str], ids: IdPatterns) -> Placed | CarrierRefusal:
    """Read the answer to it. The call's own id comes with its first webhook, beside this one."""
    answer = json_object(body)
    if is_accepted(status):
        request = text_at(answer, "request_uuid") or text_at(answer, "request_uuid", 0)
        return Placed(alias=request if ids.is_call(request) else "")
    text = text_at(answer, "error") or text_at(answer, "error", "error") or text_at(answer, "message")
    if not text and not answer:
        text = body.decode(errors="replace")  # a 401 is plain text
    return refusal(status, headers, code="", text=text, kinds={})


def hang_up(base: str, auth_id: str, token: str, call_id: str) -> RestCall:
    """Make the request that ends a call. Without an id it would end all calls of the account."""
    return RestCall("DELETE", _url(base, auth_id, "Call", call_id), auth=(auth_id, token), done=_GONE)


def cancel(base: str, auth_id: str, token: str, request: str) -> RestCall:
    """Make the request that ends a call which is queued or rings, by its request_uuid."""
    return RestCall("DELETE", _url(base, auth_id, "Request", request), auth=(auth_id, token), done=_GONE)


def ask(base: str, auth_id: str, token: str, call_id: str) -> RestCall:
    """Make the request for the state of a call among those that live."""
    return RestCall("GET", f"{_url(base, auth_id, 'Call', call_id)}?status=live", auth=(auth_id, token))


def read_state(status: int, body: bytes) -> CallState:
    """Read the answer to it: a call that is not there is over; how it ended, only its hang-up callback says."""
    if status == 404:
        return CallState("ended")
    if not is_accepted(status):
        return CallState()
    word = text_at(json_object(body), "call_status")
    return state_of(in_table(CALL_STATUS, word), in_table(OUTCOME, word))


def _account_url(base: str, auth_id: str) -> str:
    return f"{base}/v1/Account/{quote(auth_id, safe='')}"


def _url(base: str, auth_id: str, resource: str, name: str) -> str:
    return f"{_account_url(base, auth_id)}/{resource}/{quote(name, safe='')}/"
