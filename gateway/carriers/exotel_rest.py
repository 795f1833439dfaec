"""Exotel's REST API, v1: place a call and ask for it. There is no request that ends one.

In its words `From` is the person who is called and `CallerId` the number of ours.

https://developer.exotel.com/docs/voice-v1/api-reference/outgoing-call-to-flow
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from gateway.carriers.base import in_table
from gateway.carriers.exotel_fields import CALL_STATUS, CUSTOM_FIELD_LIMIT, OUTCOME
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.parameters import OwnParameters
from gateway.carriers.rest_answers import is_accepted, json_object, refusal, seconds_at, state_of, text_at
from serializers.base import IdPatterns
from serializers.call_data import RESERVED_PREFIX

MAX_RING_SECONDS = 60
MAX_CALL_SECONDS = 14400
_FLOWS = "http://my.exotel.com"
"""Where flows are named; the call is not led there by HTTP, and no URL of anyone else's is taken."""


def place(base: str, sid: str, login: tuple[str, str], flow_id: str, order: CallOrder) -> RestCall:
    """Make the request that places a call.

    A flow asks us by the URLs that are drawn in it, which are the same for all calls: CustomField tells which it is.
    """
    form: dict[str, str | list[str]] = {
        "From": order.to,
        "CallerId": order.from_number,
        "CallType": "trans",
        "TimeOut": str(min(max(order.ring_seconds, 1), MAX_RING_SECONDS)),
        "TimeLimit": str(min(max(order.max_seconds, 1), MAX_CALL_SECONDS)),
        "StatusCallback": order.status_url,
        "StatusCallbackEvents[0]": "terminal",
        "StatusCallbackEvents[1]": "answered",
        "CustomField": _custom_field(order),
    }
    if flow_id:
        form["Url"] = f"{_FLOWS}/{quote(sid, safe='')}/exoml/start_voice/{quote(flow_id, safe='')}"
    else:
        form["StreamUrl"] = order.stream_url
        form["StreamType"] = "bidirectional"
    return RestCall("POST", f"{_account_url(base, sid)}/Calls/connect.json", auth=login, form=form)


def read_placed(status: int, body: bytes, headers: Mapping[str, str], ids: IdPatterns) -> Placed | CarrierRefusal:
    """Read the answer to it."""
    answer = json_object(body)
    if is_accepted(status):
        call_id = text_at(answer, "Call", "Sid")
        return Placed(call_id if ids.is_call(call_id) else "")
    code, text = text_at(answer, "RestException", "Code"), text_at(answer, "RestException", "Message")
    return refusal(status, headers, code=code, text=text, kinds={})


def ask(base: str, sid: str, login: tuple[str, str], call_id: str) -> RestCall:
    """Make the request for the state of a call."""
    return RestCall("GET", f"{_account_url(base, sid)}/Calls/{quote(call_id, safe='')}.json", auth=login)


def read_state(status: int, body: bytes) -> CallState:
    """Read the answer to it."""
    if not is_accepted(status):
        return CallState()
    answer = json_object(body)
    word = text_at(answer, "Call", "Status")
    # EndTime has no zone.
    return state_of(in_table(CALL_STATUS, word), in_table(OUTCOME, word), seconds_at(answer, "Call", "Duration"))


def _custom_field(order: CallOrder) -> str:
    """Write what the answer's URL says of the call, as `exotel_fields.own_in` reads it."""
    said = parse_qsl(urlsplit(order.answer_url).query)
    ours = urlencode([(name, value) for name, value in said if name.startswith(RESERVED_PREFIX)])
    if ours and len(ours) <= CUSTOM_FIELD_LIMIT:
        return ours
    return OwnParameters(session=order.session).query()[:CUSTOM_FIELD_LIMIT]


def _account_url(base: str, sid: str) -> str:
    return f"{base}/v1/Accounts/{quote(sid, safe='')}"
