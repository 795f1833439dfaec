"""What the carriers' REST APIs have in common: a request comes in, is judged, and a call is placed, or not."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.simulator.account import Account
from gateway.simulator.plan import CallPlan
from gateway.simulator.rest.call import PlacedCall
from gateway.simulator.rest.order import Order
from gateway.simulator.rest.plan import Create, Plan

MAX_BODY = 256 * 1024
FETCH_SECONDS = 20.0
E164 = re.compile(r"^\+[1-9][0-9]{6,14}$")

Handler = Callable[[Request], Awaitable[Response]]


class Rejected(Exception):
    """A request is refused: the answer that says so."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Exchange(Protocol):
    """What the APIs share: the calls, and what is to become of them."""

    def plan_for(self, to: str) -> Plan: ...
    def script(self, carrier: str, order: Order, plan: Plan) -> CallPlan: ...
    def start(self, call: PlacedCall) -> None: ...
    def find(self, carrier: str, call_id: str) -> PlacedCall | None: ...
    def find_alias(self, carrier: str, alias: str) -> PlacedCall | None: ...
    def over_rate(self, carrier: str) -> bool: ...
    async def disconnected(self, request: Request) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's fields, by name. `repeated`: every value of a name that may come more than once."""

    fields: Mapping[str, str]
    repeated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        return self.fields.get(name, default)


class RestApi(ABC):
    """One carrier's REST API. A subclass has its routes, its words for errors, and makes its calls."""

    name: ClassVar[str]
    usual_calls: ClassVar[float | None] = None
    """Calls a second that a new account may place; more wait in the carrier's queue. None: as fast as it is."""

    def __init__(self, account: Account, exchange: Exchange) -> None:
        self.account = account
        self.exchange = exchange

    @abstractmethod
    def routes(self) -> list[BaseRoute]:
        """Return the routes below this carrier's `api_url`."""

    @abstractmethod
    def authorize(self, request: Request) -> None:
        """Check the credentials. Raises Rejected."""

    @abstractmethod
    def refusal(self, request: Request, create: Create, to: str) -> Response:
        """Return the answer of a create request that is refused: for "rate", "error" and so on."""

    def route(self, path: str, handler: Handler, *methods: str) -> Route:
        """Make a route whose requests are counted and authorized first."""

        async def guarded(request: Request) -> Response:
            try:
                if self.exchange.over_rate(self.name):
                    return self.refusal(request, "rate", "")
                self.authorize(request)
                return await handler(request)
            except Rejected as rejected:
                return rejected.response

        return Route(path, guarded, methods=list(methods))

    async def create(self, request: Request, order: Order, answer: Callable[[PlacedCall], Response]) -> Response:
        """Place the call and answer, or not, as it was planned for this number."""
        plan = self.exchange.plan_for(order.to)
        if plan.create in ("invalid", "forbidden", "unauthorized", "rate", "error", "unavailable"):
            return self.refusal(request, plan.create, order.to)
        if plan.create == "lost":
            await self.exchange.disconnected(request)
            return Response(status_code=504)
        call = self.make(order, plan)
        self.exchange.start(call)
        if plan.create == "unanswered":
            await self.exchange.disconnected(request)
        elif plan.create == "early":
            await asyncio.wait_for(call.fetched.wait(), FETCH_SECONDS + order.ring_seconds)
        await asyncio.sleep(plan.delay)
        if plan.create == "bad_gateway":
            return HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", 502)
        return answer(call)

    @abstractmethod
    def make(self, order: Order, plan: Plan) -> PlacedCall:
        """Make the call of an order; nobody has been dialled yet."""


async def read_body(request: Request) -> bytes:
    """Read a request's body. Raises Rejected for one that is too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise Rejected(Response("the body is too large", 413))
    return body


async def read_form(request: Request) -> Asked:
    """Read a form. Raises Rejected."""
    return asked_of(parse_qsl((await read_body(request)).decode("utf-8", "replace"), keep_blank_values=True))


async def read_json_or_form(request: Request) -> Asked:
    """Read a JSON object, or a form. What JSON holds is text afterwards, as in a form. Raises Rejected."""
    if "json" not in request.headers.get("content-type", ""):
        return await read_form(request)
    try:
        value = json.loads(await read_body(request) or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Rejected(Response("the body is no JSON object", 400))
    pairs: list[tuple[str, str]] = []
    for name, one in value.items():
        pairs += [(name, _text(each)) for each in (one if isinstance(one, list) else [one])]
    return asked_of(pairs)


def _text(value: object) -> str:
    """Write a JSON value as a form's field: true, 30, "" for null."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def asked_of(pairs: Sequence[tuple[str, str]]) -> Asked:
    """Order a form's fields by their names."""
    repeated: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        repeated[name] = (*repeated.get(name, ()), value)
    return Asked(dict(pairs), repeated)


def is_url(text: str) -> bool:
    """Tell whether a callback URL could be asked."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def basic_auth(request: Request) -> tuple[str, str]:
    """Return user and password of a Basic authorization, empty without one."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password


def same(ours: str, theirs: str) -> bool:
    """Compare secrets in constant time; a secret of ours that is empty equals nothing."""
    return bool(ours) and hmac.compare_digest(ours.encode(), theirs.encode())
