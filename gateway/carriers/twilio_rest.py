"""Twilio's REST API, 2010-04-01: place a call, ask for it, end it.

https://www.twilio.com/docs/voice/api/call-resource
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from gateway.carriers.base import in_table
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RefusalKind, RestCall
from gateway.carriers.rest_answers import is_accepted, json_object, refusal, seconds_at, state_of, text_at, time_at
from gateway.carriers.twiml import CALL_STATUS, OUTCOME
from serializers.base import IdPatterns

EVENTS = ("initiated", "ringing", "answered", "completed")
MAX_RING_SECONDS = 600
MAX_CALL_SECONDS = 86400
"""The default is four hours; an account may have more, and Twilio says so itself where it has not."""
_DETECTION = {"detect": "Enable", "message_end": "DetectMessageEnd"}
_GONE = ("20404", "21220")
"""No such call; not in progress any more."""
_KINDS: Mapping[str, RefusalKind] = {
    "13225": "refused",  # a number that Twilio blocks
    "13227": "refused",  # the country is not open to this account
    "20003": "auth",
    "20005": "auth",  # the account is not active
    "20429": "rate",
    "21203": "refused",  # international calling is off
    "21205": "invalid",
    "21210": "refused",  # From is not verified
    "21215": "refused",  # the country is not open to this account
    "21216": "refused",
    "21219": "refused",  # a trial account, and To is not verified
    "21408": "refused",
    "21606": "refused",  # From is not ours
    "32205": "refused",
}


def place(base: str, sid: str, token: str, order: CallOrder) -> RestCall:
    """Make the request that places a call."""
    form: dict[str, str | list[str]] = {
        "To": order.to,
        "From": order.from_number,
        "Url": order.answer_url,
        "Method": "POST",
        "StatusCallback": order.status_url,
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": list(EVENTS),
        "Timeout": str(min(max(order.ring_seconds, 1), MAX_RING_SECONDS)),
        "TimeLimit": str(min(max(order.max_seconds, 1), MAX_CALL_SECONDS)),
    }
    if order.machine_detection != "off":
        # Else the markup, and with it the bot, would wait for the verdict.
        form["MachineDetection"] = _DETECTION[order.machine_detection]
        form["AsyncAmd"] = "true"
        form["AsyncAmdStatusCallback"] = order.status_url
        form["AsyncAmdStatusCallbackMethod"] = "POST"
    return RestCall("POST", f"{_account_url(base, sid)}/Calls.json", auth=(sid, token), form=form)


def read_placed(status: int, body: bytes, headers: Mapping[str, str], ids: IdPatterns) -> Placed | CarrierRefusal:
    """Read the answer to it."""
    answer = json_object(body)
    if is_accepted(status):
        call_id = text_at(answer, "sid")
        return Placed(call_id if ids.is_call(call_id) else "")
    # RFC 9457 in newer answers: `detail` is what `message` was.
    text = text_at(answer, "message") or text_at(answer, "detail") or text_at(answer, "title")
    return refusal(status, headers, code=text_at(answer, "code"), text=text, kinds=_KINDS)


def hang_up(base: str, sid: str, token: str, call_id: str) -> RestCall:
    """Make the request that ends a call in any state: "canceled" would not end one that was just answered."""
    return RestCall("POST", _call_url(base, sid, call_id), auth=(sid, token), form={"Status": "completed"}, done=_GONE)


def ask(base: str, sid: str, token: str, call_id: str) -> RestCall:
    """Make the request for the state of a call."""
    return RestCall("GET", _call_url(base, sid, call_id), auth=(sid, token))


def read_state(status: int, body: bytes) -> CallState:
    """Read the answer to it."""
    if not is_accepted(status):
        return CallState()
    answer = json_object(body)
    word, ended = text_at(answer, "status"), time_at(answer, "end_time")
    return state_of(in_table(CALL_STATUS, word), in_table(OUTCOME, word), seconds_at(answer, "duration"), ended)


def _account_url(base: str, sid: str) -> str:
    return f"{base}/2010-04-01/Accounts/{quote(sid, safe='')}"


def _call_url(base: str, sid: str, call_id: str) -> str:
    return f"{_account_url(base, sid)}/Calls/{quote(call_id, safe='')}.json"
