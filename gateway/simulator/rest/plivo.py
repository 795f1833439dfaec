"""Plivo's REST API for calls: create, fetch, transfer, digits, hang up.

From plivo.com/docs/voice/api/call and what the Python SDK sends and reads. A create request is answered with a
request_uuid; the call's own id is in the callbacks only.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from gateway.simulator import clock
from gateway.simulator.call import Step
from gateway.simulator.carrier import Fields, Request
from gateway.simulator.plan import CallPlan
from gateway.simulator.plivo import SIMULATOR, PlivoAccount, SimulatedPlivo
from gateway.simulator.rest.api import E164, Asked, Rejected, RestApi, basic_auth, is_url, read_json_or_form, same
from gateway.simulator.rest.call import PlacedCall, Status, Verdict
from gateway.simulator.rest.order import Order, seconds_of
from gateway.simulator.rest.plan import Create, Plan

REFUSALS: dict[Create, tuple[int, str]] = {
    "invalid": (400, "{to} is not a valid phone number"),
    "forbidden": (403, "calls to {to} are not permitted by the account's geo permissions"),
    "rate": (429, "too many requests"),
    "error": (500, "internal server error"),
    "unavailable": (503, "service unavailable"),
}
UNAUTHORIZED = "Could not verify your access level for that URL. You have to login with proper credentials"
CAUSES: dict[Status, tuple[str, str, str]] = {
    "busy": ("USER_BUSY", "3010", "Busy Line"),
    "no-answer": ("NO_ANSWER", "6000", "Ring Timeout Reached"),
    "failed": ("UNALLOCATED_NUMBER", "2000", "Invalid Destination Address"),
    "canceled": ("ORIGINATOR_CANCEL", "1000", "Cancelled"),
}
SOURCES = {"callee": "Callee", "api": "API Request", "caller": "Plivo", "carrier": "Plivo"}
FLOW_ERRORS = {"7011": "Error Reaching Answer URL", "8011": "Invalid Answer XML"}
STATES = {"completed": "ANSWER", "busy": "BUSY", "no-answer": "NO_ANSWER", "failed": "FAILED", "canceled": "CANCEL"}


class PlacedPlivo(SimulatedPlivo):
    """What Plivo tells of a call that it was asked to place."""

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.request_id = str(uuid.uuid4())

    def _fields(self, status: str, event: str) -> Fields:
        ours = {"RequestUUID": self.request_id, "ALegRequestUUID": self.request_id}
        return [(name, ours.get(name, value)) for name, value in super()._fields(status, event)]

    def progress(self, event: Status, call: PlacedCall) -> Request | None:
        asked = call.order.fields
        if event == "ringing" and asked.get("ring_url"):
            # A captured Ring has the plus that StartApp of the same call lacks.
            plus = {"From": self.plan.from_number, "To": self.plan.to_number}
            fields = [(name, plus.get(name, value)) for name, value in self._fields("ringing", "Ring")]
            fields.append(("CallerName", self.plan.from_number))
            return Request(asked.get("ring_method", "POST").upper(), asked["ring_url"], fields)
        if call.is_over and asked.get("hangup_url"):
            status = "failed" if event == "canceled" else event
            fields = self._fields(status, "Hangup") + self._end(call)
            return Request(asked.get("hangup_method", "POST").upper(), asked["hangup_url"], fields)
        return None

    def _end(self, call: PlacedCall) -> Fields:
        cause, code, name = hangup_cause(call)
        now = datetime.now(UTC)
        answered = now - timedelta(seconds=call.seconds)
        return [
            ("AnswerTime", _stamp(answered) if call.answered_at is not None else ""),
            ("BillDuration", str(-(-call.seconds // 60) * 60)),
            ("Duration", str(call.seconds)),
            ("EndTime", _stamp(now)),
            ("HangupCause", cause),
            ("HangupCauseCode", code),
            ("HangupCauseName", name),
            ("HangupSource", SOURCES[call.ended_by or "carrier"]),
            ("StartTime", _stamp(now - timedelta(seconds=clock.now() - call.created_at))),
            ("TotalCost", "0.00500"),
        ]

    def machine(self, verdict: Verdict, call: PlacedCall) -> Request | None:
        asked = call.order.fields
        found = verdict in ("machine", "machine_end", "fax")
        hangs_up = asked.get("machine_detection") == "hangup"
        if found and hangs_up:
            call.end("carrier")
        if call.order.waits:
            call.order.first.more.append(("Machine", str(found).lower()))
            return None
        # These fields and no others: plivo.com/docs/voice/api/call/asynchronous-machine-detection
        kept = (
            "ALegRequestUUID",
            "ALegUUID",
            "CallStatus",
            "CallUUID",
            "Direction",
            "Event",
            "From",
            "RequestUUID",
            "To",
        )
        fields = [(k, v) for k, v in self._fields("in-progress", "MachineDetection") if k in kept]
        fields += [("IfMachine", "hangup" if hangs_up else "continue"), ("Machine", str(found).lower())]
        url, method = asked.get("machine_detection_url", ""), asked.get("machine_detection_method", "POST")
        return Request(method.upper(), url, fields)


class PlivoApi(RestApi):
    """`/v1/Account/{auth_id}/Call/…`, `/v1/Account/{auth_id}/Request/…`"""

    name: ClassVar[str] = "plivo"
    usual_calls: ClassVar[float | None] = 2.0
    account: PlivoAccount

    def routes(self) -> list[BaseRoute]:
        account = "/v1/Account/{account}"
        return [
            self.route(f"{account}/Call/", self._create, "POST"),
            self.route(f"{account}/Call/{{call_id}}/", self._fetch, "GET"),
            self.route(f"{account}/Call/{{call_id}}/", self._transfer, "POST"),
            self.route(f"{account}/Call/{{call_id}}/", self._hang_up, "DELETE"),
            self.route(f"{account}/Call/{{call_id}}/DTMF/", self._digits, "POST"),
            self.route(f"{account}/Request/{{request_id}}/", self._cancel, "DELETE"),
        ]

    def authorize(self, request: HttpRequest) -> None:
        user, password = basic_auth(request)
        known = user == self.account.auth_id == request.path_params["account"]
        if not known or not same(self.account.auth_token, password):
            raise Rejected(self.refusal(request, "unauthorized", ""))

    def refusal(self, request: HttpRequest, create: Create, to: str) -> Response:
        del request
        if create == "unauthorized":
            return Response(UNAUTHORIZED, 401, {"WWW-Authenticate": 'Basic realm="Login Required"'}, "text/html")
        status, text = REFUSALS[create]
        return _error(status, text.format(to=to), {"Retry-After": "1"} if create == "rate" else None)

    # Requests

    async def _create(self, request: HttpRequest) -> Response:
        return await self.create(request, _order(await read_json_or_form(request)), self._created)

    def _created(self, call: PlacedCall) -> Response:
        message = "call queued" if call.queued else "call fired"
        return JSONResponse({"api_id": _id(), "message": message, "request_uuid": call.alias}, 201)

    async def _fetch(self, request: HttpRequest) -> Response:
        """A live call with ?status=live, one that waits with ?status=queued, else the record of one that is over."""
        call = self._call(request)
        wanted = request.query_params.get("status", "")
        stands = "queued" if call.status in ("queued", "initiated") else "" if call.is_over else "live"
        if wanted != stands:
            raise Rejected(_not_found())
        return JSONResponse(_record(call) if call.is_over else _live(call))

    async def _transfer(self, request: HttpRequest) -> Response:
        call, asked = self._live_call(request), await read_json_or_form(request)
        legs, url = asked.get("legs", "aleg"), asked.get("aleg_url")
        if legs not in ("aleg", "both"):
            raise Rejected(_error(400, "only the A leg is there: legs must be aleg or both"))
        if not is_url(url):
            raise Rejected(_error(400, "aleg_url is not a valid URL"))
        if call.answered_at is None:
            raise Rejected(_not_found())
        call.move(Step(url, asked.get("aleg_method", "POST").upper()))
        return JSONResponse({"api_id": _id(), "call_uuids": [call.call_id], "message": "call transfered"}, 202)

    async def _digits(self, request: HttpRequest) -> Response:
        call, asked = self._live_call(request), await read_json_or_form(request)
        if call.answered_at is None:
            raise Rejected(_not_found())
        if not asked.get("digits"):
            raise Rejected(_error(400, "digits is a required parameter"))
        call.press(asked.get("digits"))
        return JSONResponse({"api_id": _id(), "message": "digits sent"}, 202)

    async def _hang_up(self, request: HttpRequest) -> Response:
        self._live_call(request).end("api")
        return Response(status_code=204)

    async def _cancel(self, request: HttpRequest) -> Response:
        """Only what has not been answered is a request still."""
        call = self.exchange.find_alias(self.name, request.path_params["request_id"])
        if call is None or call.is_over or call.answered_at is not None:
            raise Rejected(_not_found())
        call.end("api")
        return Response(status_code=204)

    def _call(self, request: HttpRequest) -> PlacedCall:
        call = self.exchange.find(self.name, request.path_params["call_id"])
        if call is None:
            raise Rejected(_not_found())
        return call

    def _live_call(self, request: HttpRequest) -> PlacedCall:
        call = self._call(request)
        if call.is_over:
            raise Rejected(_not_found())
        return call

    def make(self, order: Order, plan: Plan) -> PlacedCall:
        script = self.exchange.script(self.name, order, plan)
        carrier = PlacedPlivo(script)
        call = PlacedCall(order, plan, script, carrier, carrier, SIMULATOR.flow)
        call.alias = carrier.request_id
        return call


def _order(asked: Asked) -> Order:
    """Read a create request. Raises Rejected."""
    for name in ("from", "to", "answer_url"):
        if not asked.get(name):
            raise Rejected(_error(400, f"{name} is a required parameter"))
    to, from_number = (f"+{asked.get(name).lstrip('+')}" for name in ("to", "from"))
    if "<" in to:
        raise Rejected(_error(400, "bulk calls are not simulated: one number in `to`"))
    if not E164.match(to):
        raise Rejected(_error(400, f"{asked.get('to')} is not a valid phone number"))
    if not is_url(asked.get("answer_url")):
        raise Rejected(_error(400, "answer_url is not a valid URL"))
    looked_for = asked.get("machine_detection").lower() in ("true", "hangup")
    return Order(
        to=to,
        from_number=from_number,
        first=Step(asked.get("answer_url"), asked.get("answer_method", "POST").upper(), first=True),
        ring_seconds=seconds_of(asked.get("ring_timeout"), 120, 1, 600),
        max_seconds=seconds_of(asked.get("time_limit"), 14400, 1, 86400),
        detection="detect" if looked_for else "",
        waits=not is_url(asked.get("machine_detection_url")),
        fields=asked.fields,
    )


def hangup_cause(call: PlacedCall) -> tuple[str, str, str]:
    """Return HangupCause, its code and its name."""
    if call.status in CAUSES:
        return CAUSES[call.status]
    code = call.report.outcome.removeprefix("failed: ")[:4]
    if code in FLOW_ERRORS:
        return "NORMAL_CLEARING", code, FLOW_ERRORS[code]
    if call.ended_by == "caller":
        return "NORMAL_CLEARING", "4010", "End Of XML Instructions"
    if call.ended_by == "carrier" and call.answered_by:
        return "NORMAL_CLEARING", "9100", "Machine Detected"
    return "NORMAL_CLEARING", "4000", "Normal Hangup"


def _live(call: PlacedCall) -> dict[str, Any]:
    return {
        "api_id": _id(),
        "call_status": "in-progress" if call.answered_at is not None else "ringing",
        "call_uuid": call.call_id,
        "caller_name": "",
        "direction": "outbound",
        "from": call.order.from_number.lstrip("+"),
        "request_uuid": call.alias,
        "session_start": _stamp(datetime.now(UTC) - timedelta(seconds=clock.now() - call.created_at)),
        "to": call.to.lstrip("+"),
    }


def _record(call: PlacedCall) -> dict[str, Any]:
    cause, code, name = hangup_cause(call)
    now = datetime.now(UTC)
    return {
        "answer_time": _stamp(now) if call.answered_at is not None else None,
        "api_id": _id(),
        "bill_duration": -(-call.seconds // 60) * 60,
        "call_direction": "outbound",
        "call_duration": call.seconds,
        "call_state": STATES[call.status],
        "call_uuid": call.call_id,
        "end_time": _stamp(call.end_time),
        "from_number": call.order.from_number,
        "hangup_cause": cause,
        "hangup_cause_code": int(code),
        "hangup_cause_name": name,
        "hangup_source": SOURCES[call.ended_by or "carrier"],
        "initiation_time": _stamp(now - timedelta(seconds=clock.now() - call.created_at)),
        "to_number": call.to,
        "total_amount": "0.00500",
    }


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"api_id": _id(), "error": text}, status, headers)


def _not_found() -> Response:
    return _error(404, "not found")


def _id() -> str:
    return str(uuid.uuid4())


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")
