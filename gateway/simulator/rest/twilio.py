"""Twilio's REST API for calls, 2010-04-01: create, fetch, update.

From twilio.com/docs/voice/api/call-resource, /docs/api/errors, and what the Python SDK sends and reads.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from gateway.simulator import clock
from gateway.simulator.call import Step
from gateway.simulator.carrier import Request
from gateway.simulator.rest.api import E164, Asked, Rejected, RestApi, basic_auth, is_url, read_form, same
from gateway.simulator.rest.call import PlacedCall, Status, Verdict, tell_machine
from gateway.simulator.rest.order import Detection, Order, seconds_of
from gateway.simulator.rest.plan import Create, Plan
from gateway.simulator.twilio import SIMULATOR, SimulatedTwilio, TwilioAccount

EVENTS = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}  # all others: completed
ANSWERED_BY = {"machine": "machine_start", "machine_end": "machine_end_beep"}
REFUSALS: dict[Create, tuple[int, int, str]] = {
    "invalid": (400, 21211, "The phone number you are attempting to call, {to}, is not valid."),
    "forbidden": (400, 21215, "Account not authorized to call {to}. Perhaps you need to enable some geo permissions."),
    "unauthorized": (401, 20003, "Authenticate"),
    "rate": (429, 20429, "Too Many Requests"),
    "error": (500, 20500, "An internal server error has occurred"),
    "unavailable": (503, 20503, "Service is unavailable. Please try again."),
}


class PlacedTwilio(SimulatedTwilio):
    """What Twilio tells of a call that it was asked to place."""

    def progress(self, event: Status, call: PlacedCall) -> Request | None:
        fields = call.order.fields
        url = fields.get("StatusCallback", "")
        name = EVENTS.get(event, "completed" if call.is_over else "")
        if not url or name not in call.order.events:
            return None
        more = [
            ("Timestamp", format_datetime(datetime.now(UTC))),
            ("CallbackSource", "call-progress-events"),
            ("SequenceNumber", str(call.sequence)),
        ]
        call.sequence += 1
        if call.is_over:
            more += [("Duration", str(-(-call.seconds // 60))), ("CallDuration", str(call.seconds))]
            more.append(("SipResponseCode", {"busy": "486", "no-answer": "487", "canceled": "487"}.get(event, "200")))
        return Request(fields.get("StatusCallbackMethod", "POST").upper(), url, self._fields(event) + more)

    def machine(self, verdict: Verdict, call: PlacedCall) -> Request | None:
        ids = [("CallSid", self.call_id), ("AccountSid", self.account_id)]
        return tell_machine(call, ANSWERED_BY.get(verdict, verdict), ids)


class TwilioApi(RestApi):
    """`/2010-04-01/Accounts/{AccountSid}/Calls…`"""

    name: ClassVar[str] = "twilio"
    account: TwilioAccount

    def routes(self) -> list[BaseRoute]:
        calls = "/2010-04-01/Accounts/{account}/Calls"
        return [
            self.route(f"{calls}.json", self._create, "POST"),
            self.route(f"{calls}/{{call_id}}.json", self._fetch, "GET"),
            self.route(f"{calls}/{{call_id}}.json", self._update, "POST"),
        ]

    def authorize(self, request: HttpRequest) -> None:
        user, password = basic_auth(request)
        if user != self.account.account_sid or not same(self.account.auth_token, password):
            raise Rejected(self.refusal(request, "unauthorized", ""))
        if request.path_params["account"] != self.account.account_sid:
            raise Rejected(_not_found(request))

    def refusal(self, request: HttpRequest, create: Create, to: str) -> Response:
        del request
        status, code, message = REFUSALS[create]
        return _error(status, code, message.format(to=to), {"Retry-After": "1"} if create == "rate" else None)

    # Requests

    async def _create(self, request: HttpRequest) -> Response:
        asked = await read_form(request)
        return await self.create(request, _order(asked), lambda call: JSONResponse(self._shown(call), 201))

    async def _fetch(self, request: HttpRequest) -> Response:
        return JSONResponse(self._shown(self._call(request)))

    async def _update(self, request: HttpRequest) -> Response:
        call, asked = self._call(request), await read_form(request)
        status, url, twiml = asked.get("Status"), asked.get("Url"), asked.get("Twiml")
        if call.is_over:
            raise Rejected(_error(400, 21220, "Call is not in-progress. Cannot redirect."))
        if status == "completed" or (status == "canceled" and call.answered_at is None):
            call.end("api")
        elif status == "canceled":
            pass  # too late: it has no effect on an answered call
        elif status:
            raise Rejected(_error(400, 20001, f"Status {status!r} is not one of completed, canceled"))
        elif call.answered_at is None:
            raise Rejected(_error(400, 21220, "Call is not in-progress. Cannot redirect."))
        elif step := _step(asked, first=False):
            call.move(step)
        else:
            raise Rejected(_error(400, 21205, f"Url is not a valid URL: {url or twiml}"))
        return JSONResponse(self._shown(call))

    def _call(self, request: HttpRequest) -> PlacedCall:
        call = self.exchange.find(self.name, request.path_params["call_id"])
        if call is None:
            raise Rejected(_not_found(request))
        return call

    # Calls

    def make(self, order: Order, plan: Plan) -> PlacedCall:
        script = self.exchange.script(self.name, order, plan)
        carrier = PlacedTwilio(script)
        return PlacedCall(order, plan, script, carrier, carrier, SIMULATOR.flow)

    def _shown(self, call: PlacedCall) -> dict[str, Any]:
        began = datetime.now(UTC) - timedelta(seconds=clock.now() - call.created_at)
        answered = call.answered_at is not None
        uri = f"/2010-04-01/Accounts/{self.account.account_sid}/Calls/{call.call_id}"
        return {
            "account_sid": self.account.account_sid,
            "annotation": None,
            "answered_by": ANSWERED_BY.get(call.answered_by, call.answered_by) or None,
            "api_version": "2010-04-01",
            "caller_name": None,
            "date_created": format_datetime(began),
            "date_updated": format_datetime(datetime.now(UTC)),
            "direction": "outbound-api",
            "duration": str(call.seconds) if call.is_over else None,
            "end_time": format_datetime(call.end_time) if call.is_over else None,
            "forwarded_from": None,
            "from": call.order.from_number,
            "from_formatted": call.order.from_number,
            "group_sid": None,
            "parent_call_sid": None,
            "phone_number_sid": None,
            "price": None,
            "price_unit": "USD",
            "queue_time": "0",
            "sid": call.call_id,
            "start_time": format_datetime(began) if answered else None,
            "status": "queued" if call.status == "initiated" else call.status,
            "subresource_uris": {"streams": f"{uri}/Streams.json"},
            "to": call.to,
            "to_formatted": call.to,
            "trunk_sid": None,
            "uri": f"{uri}.json",
        }


def _order(asked: Asked) -> Order:
    """Read a create request. Raises Rejected."""
    to, from_number = asked.get("To"), asked.get("From")
    if not to:
        raise Rejected(_error(400, 21201, "No 'To' number is specified"))
    if not E164.match(to):
        raise Rejected(_error(400, 21211, f"Invalid 'To' Phone Number: {to}"))
    if not from_number:
        raise Rejected(_error(400, 21213, "No 'From' number is specified"))
    if not E164.match(from_number):
        raise Rejected(_error(400, 21212, f"Invalid 'From' Phone Number: {from_number}"))
    step = _step(asked, first=True)
    if step is None:
        raise Rejected(_error(400, 21205, "Url is not a valid URL: " + asked.get("Url")))
    detection: dict[str, Detection] = {"Enable": "detect", "DetectMessageEnd": "message_end"}
    events = asked.repeated.get("StatusCallbackEvent", ("completed",))
    return Order(
        to=to,
        from_number=from_number,
        first=step,
        ring_seconds=seconds_of(asked.get("Timeout"), 60, 1, 600),
        max_seconds=seconds_of(asked.get("TimeLimit"), 14400, 0, 86400),
        detection=detection.get(asked.get("MachineDetection"), "") if not asked.get("SendDigits") else "",
        waits=asked.get("AsyncAmd").lower() != "true",
        fields=asked.fields,
        events=frozenset(word for event in events for word in event.split()),
    )


def _step(asked: Asked, *, first: bool) -> Step | None:
    """Where the instructions are: with Url and Twiml both, Twiml is ignored."""
    url, twiml = asked.get("Url"), asked.get("Twiml")
    if is_url(url):
        return Step(url, asked.get("Method", "POST").upper(), first=first)
    if not twiml or url:
        return None
    if len(twiml) > 4000:
        raise Rejected(_error(400, 32018, "Twiml is longer than 4000 characters"))
    return Step("", first=first, document=twiml)


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    return JSONResponse(body, status, headers)


def _not_found(request: HttpRequest) -> Response:
    path = request.url.path[request.url.path.find("/2010-04-01") :]
    return _error(404, 20404, f"The requested resource {path} was not found")
