"""Exotel's REST API for calls, v1: connect, and a call's details. It has no hang-up and no transfer.

From developer.exotel.com (make a call, call details, StatusCallback) and captured callbacks. `From` is the party that
is called, `CallerId` the ExoPhone that calls. With StreamUrl the answered call is one stream; with Url it goes through
a flow, whose applets are the gateway's at `public_url`, or else where the StatusCallback leads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from gateway.simulator.call import Call, Step
from gateway.simulator.carrier import Fields, Request, StreamSpec
from gateway.simulator.exotel import IST, ExotelAccount, SimulatedExotel
from gateway.simulator.exotel_flow import SIMULATOR
from gateway.simulator.outcome import Failed
from gateway.simulator.plan import CallPlan
from gateway.simulator.rest.api import E164, Asked, Rejected, RestApi, asked_of, basic_auth, is_url, read_body, same
from gateway.simulator.rest.call import PlacedCall, Status, Verdict
from gateway.simulator.rest.order import Order, seconds_of
from gateway.simulator.rest.plan import Create, Plan

EVENTS = {"ringing": "ringing", "in-progress": "answered"}  # all ends: terminal
REFUSALS: dict[Create, tuple[int, str]] = {
    "invalid": (400, "Invalid parameter: {to} is not a valid number to call"),
    "forbidden": (403, "Calls to {to} are not allowed for this account"),
    "unauthorized": (401, "Authentication failed"),
    "rate": (429, "Too many requests"),
    "error": (500, "Internal server error"),
    "unavailable": (503, "Service unavailable"),
}
APPLETS = "/webhooks/exotel/"


class PlacedExotel(SimulatedExotel):
    """What Exotel tells of a call that it was asked to place."""

    def __init__(self, plan: CallPlan, order: Order) -> None:
        super().__init__(plan)
        self.from_number, self.to_number = self.to_number, self.from_number  # From is who was called
        self._order = order

    def applet_url(self, applet: str) -> str:
        if self.plan.public:
            return super().applet_url(applet)
        base, found, _ = self._order.fields.get("StatusCallback", "").partition(APPLETS)
        return f"{base}{APPLETS}{applet}" if found else ""

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        custom = self._order.fields.get("CustomField", "")
        more = [*(more or []), *([("CustomField", custom)] if custom else [])]
        return super().instructions(url, method, answered=answered, more=more)

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        # Applets were given a password by hand; a callback is asked at the URL that the request named, and no more.
        return {} if request.url == self._order.fields.get("StatusCallback") else super().headers(request, body)

    def progress(self, event: Status, call: PlacedCall) -> Request | None:
        url = self._order.fields.get("StatusCallback", "")
        name = EVENTS.get(event, "terminal" if call.is_over else "")
        subscribed = name in self._order.events
        if not url or not name or (not subscribed and (name != "terminal" or self._order.events)):
            return None
        now = datetime.now(IST).strftime("%Y-%m-%d %H:%M:%S")
        fields: Fields = [
            ("CallSid", self.call_id),
            ("Status", "failed" if event == "canceled" else event),
            ("DateUpdated", now),
            ("RecordingUrl", ""),
        ]
        if subscribed:
            fields += [
                ("EventType", name),
                ("DateCreated", self._created.strftime("%Y-%m-%d %H:%M:%S")),
                ("To", ""),
                ("From", self.from_number),
                ("PhoneNumberSid", self.to_number),
                ("StartTime", self._created.strftime("%Y-%m-%d %H:%M:%S")),
                ("EndTime", now if call.is_over else ""),
                ("ConversationDuration", str(call.seconds)),
                ("Direction", "outbound-api"),
                ("CustomField", self._order.fields.get("CustomField", "")),
                ("Legs[0][Status]", "completed" if event == "completed" else event),
                ("Legs[0][OnCallDuration]", str(call.seconds)),
            ]
        return Request("POST", url, fields, multipart=True)

    def machine(self, verdict: Verdict, call: PlacedCall) -> Request | None:
        """Exotel detects no machines."""
        return None


async def stream_flow(call: Call) -> None:
    """Hold the one stream of a call with a StreamUrl: when it is over, so is the call. Raises HungUp, Failed."""
    call.report.verbs.append("Stream")
    log = await call.stream(StreamSpec(call.first.url if call.first else ""))
    if log.ended_by == "refused":
        raise Failed(log.error)


class ExotelApi(RestApi):
    """`/v1/Accounts/{sid}/Calls/…`, with `.json` or in XML."""

    name: ClassVar[str] = "exotel"
    account: ExotelAccount

    def routes(self) -> list[BaseRoute]:
        calls = "/v1/Accounts/{account}/Calls"
        return [
            self.route(f"{calls}/connect", self._create, "POST"),
            self.route(f"{calls}/connect.json", self._create, "POST"),
            self.route(f"{calls}/{{call_id}}", self._fetch, "GET"),
        ]

    def authorize(self, request: HttpRequest) -> None:
        user, password = basic_auth(request)
        known = user == self.account.api_key and request.path_params["account"] == self.account.account_sid
        if not known or not same(self.account.api_token, password):
            raise Rejected(self.refusal(request, "unauthorized", ""))

    def refusal(self, request: HttpRequest, create: Create, to: str) -> Response:
        status, text = REFUSALS[create]
        return _error(request, status, text.format(to=to))

    async def _create(self, request: HttpRequest) -> Response:
        order = _order(request, await _read(request))
        return await self.create(request, order, lambda call: _shown(request, call))

    async def _fetch(self, request: HttpRequest) -> Response:
        call_id = request.path_params["call_id"].removesuffix(".json")
        call = self.exchange.find(self.name, call_id)
        if call is None:
            raise Rejected(_error(request, 404, f"The requested resource {call_id} was not found"))
        return _shown(request, call)

    def make(self, order: Order, plan: Plan) -> PlacedCall:
        script = self.exchange.script(self.name, order, plan)
        carrier = PlacedExotel(script, order)
        flow = stream_flow if order.first.url.startswith(("ws://", "wss://")) else SIMULATOR.flow
        return PlacedCall(order, plan, script, carrier, carrier, flow)


async def _read(request: HttpRequest) -> Asked:
    """Read a form, multipart or not. Raises Rejected."""
    body = await read_body(request)
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return asked_of(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    request._body = body  # what Starlette keeps of a body that was read
    async with request.form() as form:
        return asked_of([(name, value) for name, value in form.multi_items() if isinstance(value, str)])


def _order(request: HttpRequest, asked: Asked) -> Order:
    """Read a connect request. Raises Rejected."""
    for name in ("From", "CallerId"):
        if not asked.get(name):
            raise Rejected(_error(request, 400, f"Missing mandatory parameter: {name}"))
    to, from_number = _e164(asked.get("From")), _e164(asked.get("CallerId"))
    if not E164.match(to):
        raise Rejected(_error(request, 400, f"Invalid parameter: From {asked.get('From')!r}"))
    stream, url = asked.get("StreamUrl"), asked.get("Url")
    if stream and (asked.get("StreamType") != "bidirectional" or not stream.startswith(("ws://", "wss://"))):
        raise Rejected(_error(request, 400, "Invalid parameter: StreamUrl needs wss:// and StreamType=bidirectional"))
    if not stream and (not is_url(url) or "/exoml/start_voice/" not in url):
        raise Rejected(_error(request, 400, "Invalid parameter: Url must be …/exoml/start_voice/{flow_id}"))
    if len(asked.get("CustomField")) > 128:
        raise Rejected(_error(request, 400, "Invalid parameter: CustomField is longer than 128 characters"))
    events = [value for name, value in asked.fields.items() if name.startswith("StatusCallbackEvents")]
    return Order(
        to=to,
        from_number=from_number,
        first=Step(stream or url, first=True),
        ring_seconds=seconds_of(asked.get("TimeOut"), 30, 1, 120),
        max_seconds=seconds_of(asked.get("TimeLimit"), 14400, 1, 14400),
        fields=asked.fields,
        events=frozenset(events),
    )


def _e164(number: str) -> str:
    """Read a number as an Indian account writes it: 09494865411 is +919494865411."""
    digits = number.replace("-", "").replace(" ", "")
    return f"+91{digits[1:]}" if digits.startswith("0") else digits


def _shown(request: HttpRequest, call: PlacedCall) -> Response:
    carrier = call.carrier
    now = datetime.now(IST).strftime("%Y-%m-%d %H:%M:%S")
    value: dict[str, Any] = {
        "Sid": call.call_id,
        "ParentCallSid": None,
        "DateCreated": now,
        "DateUpdated": now,
        "AccountSid": carrier.account_id,
        "To": carrier.to_number,
        "From": carrier.from_number,
        "PhoneNumberSid": carrier.to_number,
        "Status": {"initiated": "queued", "canceled": "failed"}.get(call.status, call.status),
        "StartTime": now,
        "EndTime": call.end_time.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S") if call.is_over else None,
        "Duration": str(call.seconds) if call.is_over else None,
        "Price": None,
        "Direction": "outbound-api",
        "AnsweredBy": None,
        "ForwardedFrom": None,
        "CallerName": None,
        "Uri": f"/v1/Accounts/{carrier.account_id}/Calls/{call.call_id}",
        "RecordingUrl": None,
    }
    return _answer(request, 200, "Call", value)


def _error(request: HttpRequest, status: int, text: str) -> Response:
    response = _answer(request, status, "RestException", {"Status": status, "Message": text})
    if status == 429:
        response.headers.update({"Retry-After": "1", "X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0"})
    return response


def _answer(request: HttpRequest, status: int, root: str, value: dict[str, Any]) -> Response:
    """Write JSON where the path ends in .json, else XML."""
    if request.url.path.endswith(".json"):
        return JSONResponse({root: value}, status)
    inside = "".join(f"<{name}>{escape(str('' if one is None else one))}</{name}>" for name, one in value.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?><TwilioResponse><{root}>{inside}</{root}></TwilioResponse>'
    return Response(body, status, media_type="application/xml")
