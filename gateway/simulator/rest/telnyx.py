"""Telnyx's REST API for TeXML calls, and the few Call Control commands that work on them.

From developers.telnyx.com (TeXML REST commands, callbacks, errors), and what the Python SDK sends and reads. Any
account_sid is taken in a path: the portal's user id stands in no setting.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from gateway.simulator import clock
from gateway.simulator.call import Step
from gateway.simulator.carrier import Fields, Request
from gateway.simulator.plan import CallPlan
from gateway.simulator.rest.api import E164, Asked, Rejected, RestApi, is_url, read_json_or_form, same
from gateway.simulator.rest.call import PlacedCall, Status, Verdict, tell_machine
from gateway.simulator.rest.order import Detection, Order, seconds_of
from gateway.simulator.rest.plan import Create, Plan
from gateway.simulator.telnyx import SIMULATOR, SimulatedTelnyx, TelnyxAccount

EVENTS = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}  # all others: completed
ANSWERED_BY = {"machine": "machine_start", "machine_end": "machine_end_beep"}
HANGUP_CAUSES = {"busy": "user_busy", "no-answer": "timeout", "failed": "not_found", "canceled": "originator_cancel"}
HANGUP_SOURCES = {"caller": "caller", "api": "caller", "callee": "callee"}
REFUSALS: dict[Create, tuple[int, str, str, str]] = {
    "invalid": (422, "10002", "Invalid phone number", "The phone number {to} is invalid."),
    "forbidden": (403, "10010", "Authorization failed", "Calls to {to} are not allowed by the outbound profile."),
    "unauthorized": (401, "10009", "Authentication failed", "No key found matching the ID with the provided secret."),
    "rate": (429, "10011", "Too many requests", "You have exceeded the maximum number of allowed requests."),
    "error": (500, "10007", "Unexpected error", "An unexpected error occurred."),
    "unavailable": (503, "10007", "Service unavailable", "The service is unavailable."),
}


class PlacedTelnyx(SimulatedTelnyx):
    """What Telnyx tells of a TeXML call that it was asked to place."""

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self._initiated = _iso(datetime.now(UTC))

    def progress(self, event: Status, call: PlacedCall) -> Request | None:
        fields = call.order.fields
        url = fields.get("StatusCallback", "")
        name = EVENTS.get(event, "completed" if call.is_over else "")
        if not url or name not in call.order.events:
            return None
        more: Fields = [
            ("CallInitiatedAt", self._initiated),
            ("CallStatus", event),
            ("CallbackSource", "call-progress-events"),
            ("SequenceNumber", str(call.sequence)),
            ("Timestamp", _iso(datetime.now(UTC))),
        ]
        call.sequence += 1
        if name == "answered":
            more += [("CallDuration", "0"), ("Codec", self.plan.encoding or "PCMU"), ("SamplingRate", "8000")]
        elif name == "completed":
            more += self._end(event, call)
        return Request(fields.get("StatusCallbackMethod", "POST").upper(), url, self._ids() + more)

    def _ids(self) -> Fields:
        return [
            ("AccountSid", self.account_id),
            ("CallSid", self.call_id),
            ("CallSidLegacy", self.call_id),
            ("ConnectionId", self.account.connection_id),
            ("From", self.from_number),
            ("To", self.to_number),
        ]

    def _end(self, event: Status, call: PlacedCall) -> Fields:
        now = datetime.now(UTC)
        answered = [("AnsweredTime", _iso(now - timedelta(seconds=call.seconds)))] if call.answered_at else []
        return [
            *answered,
            ("CallControlId", self.call_id),
            ("CallDuration", str(call.seconds)),
            ("CallLegId", self.session_id),
            ("CallQualityStats", json.dumps({"inbound": {"mos": "4.50", "packet_count": "0"}})),
            ("CallSessionId", self.session_id),
            ("EndTime", _iso(now)),
            ("HangupCause", HANGUP_CAUSES.get(event, "normal_clearing")),
            ("HangupSource", HANGUP_SOURCES.get(call.ended_by, "unknown")),
        ]

    def machine(self, verdict: Verdict, call: PlacedCall) -> Request | None:
        ids = [(name, value) for name, value in self._ids() if name not in ("From", "To")]
        return tell_machine(call, ANSWERED_BY.get(verdict, verdict), ids)


class TelnyxApi(RestApi):
    """`/v2/texml/…`, `/v2/calls/{call_control_id}…`"""

    name: ClassVar[str] = "telnyx"
    account: TelnyxAccount

    def routes(self) -> list[BaseRoute]:
        calls = "/v2/texml/Accounts/{account}/Calls"
        return [
            self.route("/v2/texml/calls/{connection}", self._create, "POST"),
            self.route(calls, self._create, "POST"),
            self.route(f"{calls}/{{call_id}}", self._fetch, "GET"),
            self.route(f"{calls}/{{call_id}}", self._update, "POST"),
            self.route("/v2/calls/{call_id}", self._status, "GET"),
            self.route("/v2/calls/{call_id}/actions/{action}", self._act, "POST"),
        ]

    def authorize(self, request: HttpRequest) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same(self.account.api_key, key):
            raise Rejected(self.refusal(request, "unauthorized", ""))

    def refusal(self, request: HttpRequest, create: Create, to: str) -> Response:
        del request
        status, code, title, detail = REFUSALS[create]
        return _error(status, code, title, detail.format(to=to), {"Retry-After": "1"} if create == "rate" else None)

    # TeXML

    async def _create(self, request: HttpRequest) -> Response:
        asked = await read_json_or_form(request)
        application = request.path_params.get("connection", asked.get("ApplicationSid"))
        if application != self.account.connection_id:
            raise Rejected(_error(422, "10015", "Invalid parameter", f"no TeXML application {application!r}"))
        return await self.create(request, _order(asked), self._created)

    def _created(self, call: PlacedCall) -> Response:
        body = {"call_sid": call.call_id, "from": call.order.from_number, "status": "queued", "to": call.to}
        return JSONResponse(body)

    async def _fetch(self, request: HttpRequest) -> Response:
        call = self._call(request, _not_found)
        began = datetime.now(UTC) - timedelta(seconds=clock.now() - call.created_at)
        answered_by = {"human": "human", "": None}.get(call.answered_by, "machine")
        body: dict[str, Any] = {
            "account_sid": call.carrier.account_id,
            "answered_by": answered_by,
            "date_created": _iso(began),
            "date_updated": _iso(datetime.now(UTC)),
            "direction": "outbound",
            "duration": str(call.seconds),
            "end_time": _iso(call.end_time) if call.is_over else None,
            "from": call.order.from_number,
            "sid": call.call_id,
            "start_time": _iso(began),
            "status": "ringing" if call.status in ("queued", "initiated") else call.status,
            "to": call.to,
            "uri": f"/v2/texml/Accounts/{call.carrier.account_id}/Calls/{call.call_id}",
        }
        return JSONResponse(body)

    async def _update(self, request: HttpRequest) -> Response:
        call, asked = self._call(request, _not_found), await read_json_or_form(request)
        _alive(call)
        if asked.get("Status") == "completed":
            call.end("api")
        elif call.answered_at is None:
            raise Rejected(_error(422, "90034", "Call not answered", "This call has not been answered yet."))
        elif step := _step(asked, "Method", first=False):
            call.move(step)
        else:
            raise Rejected(_error(422, "10015", "Invalid parameter", "one of Status, Url, Texml is required"))
        return JSONResponse({"sid": call.call_id, "status": call.status, "to": call.to})

    # Call Control

    async def _status(self, request: HttpRequest) -> Response:
        call = self._call(request, _invalid_id)
        began = datetime.now(UTC) - timedelta(seconds=clock.now() - call.created_at)
        data: dict[str, Any] = {
            "call_control_id": call.call_id,
            "call_leg_id": getattr(call.carrier, "session_id", ""),
            "call_session_id": getattr(call.carrier, "session_id", ""),
            "client_state": None,
            "is_alive": not call.is_over,
            "record_type": "call",
            "call_duration": call.seconds,
            "start_time": _iso(began),
        }
        if call.is_over:
            data["end_time"] = _iso(call.end_time)
        return JSONResponse({"data": data})

    async def _act(self, request: HttpRequest) -> Response:
        call, asked = self._call(request, _invalid_id), await read_json_or_form(request)
        _alive(call)
        action = request.path_params["action"]
        if action == "hangup":
            call.end("api")
        elif call.answered_at is None:
            raise Rejected(_error(422, "90034", "Call not answered", "This call has not been answered yet."))
        elif action == "send_dtmf":
            call.press(asked.get("digits"))
        elif action == "transfer" and asked.get("to"):
            dial = f"<Response><Dial>{escape(asked.get('to'))}</Dial></Response>"
            call.move(Step("", document=dial))
        else:
            raise Rejected(_error(422, "10015", "Invalid parameter", f"{action} is not simulated on a TeXML call"))
        return JSONResponse({"data": {"result": "ok"}})

    def _call(self, request: HttpRequest, missing: Any) -> PlacedCall:
        call = self.exchange.find(self.name, request.path_params["call_id"])
        if call is None:
            raise Rejected(missing())
        return call

    def make(self, order: Order, plan: Plan) -> PlacedCall:
        script = self.exchange.script(self.name, order, plan)
        carrier = PlacedTelnyx(script)
        return PlacedCall(order, plan, script, carrier, carrier, SIMULATOR.flow)


def _order(asked: Asked) -> Order:
    """Read a create request. Raises Rejected."""
    to, from_number = asked.get("To"), asked.get("From")
    for name, number in (("To", to), ("From", from_number)):
        if not number:
            raise Rejected(_error(422, "10004", "Missing required parameter", f"{name} is required", pointer=name))
        if not E164.match(number):
            detail = f"The {name} number {number!r} must be in +E.164 format"
            raise Rejected(_error(422, "10016", "Phone number must be in +E164 format", detail, pointer=name))
    step = _step(asked, "UrlMethod", first=True) or _step(asked, "Method", first=True)
    if step is None:
        raise Rejected(_error(422, "10015", "Invalid parameter", "Url is no URL", pointer="Url"))
    detection: dict[str, Detection] = {"Enable": "detect", "DetectMessageEnd": "message_end"}
    return Order(
        to=to,
        from_number=from_number,
        first=step,
        ring_seconds=seconds_of(asked.get("Timeout"), 30, 5, 120),
        max_seconds=seconds_of(asked.get("TimeLimit"), 14400, 30, 14400),
        detection=detection.get(asked.get("MachineDetection"), ""),
        waits=asked.get("AsyncAmd").lower() != "true",
        fields=asked.fields,
        events=frozenset(asked.get("StatusCallbackEvent", "completed").split()),
    )


def _step(asked: Asked, method: str, *, first: bool) -> Step | None:
    url, texml = asked.get("Url"), asked.get("Texml")
    if is_url(url):
        return Step(url, asked.get(method, asked.get("Method", "POST")).upper(), first=first)
    return Step("", first=first, document=texml) if texml and not url else None


def _alive(call: PlacedCall) -> None:
    if call.is_over:
        detail = "This call is no longer active and can't receive commands."
        raise Rejected(_error(422, "90018", "Call has already ended", detail))


def _error(
    status: int, code: str, title: str, detail: str, headers: dict[str, str] | None = None, *, pointer: str = ""
) -> Response:
    error: dict[str, Any] = {"code": code, "title": title, "detail": detail}
    if pointer:
        error["source"] = {"pointer": f"/{pointer}"}
    error["meta"] = {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"}
    return JSONResponse({"errors": [error]}, status, headers)


def _not_found() -> Response:
    return _error(404, "10005", "Resource not found", "The requested resource or URL could not be found.")


def _invalid_id() -> Response:
    return _error(422, "90015", "Invalid Call Control ID", "The call_control_id provided was not valid.")


def _iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
