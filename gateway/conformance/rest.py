"""What every carrier's REST side keeps: it places calls as it says that it can, and takes any answer."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.carriers.base import Carrier
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.conformance.sample import FROM, STREAM_URL, TO, Sample
from gateway.conformance.webhooks import HOSTILE_TEXT, NOT_CALLS

SEALED = "https://voice.example.com/webhooks/conformance/voice?gw_session=s&gw_mac=sealed-by-us"
ANSWERS = (b"", b"\xff", b"{", b"[]", b'{"a":' * 900, b"null", b'"x"', b"<html>", b'{"errors":[1],"Call":[],"sid":{}}')
STATUSES = (0, 200, 201, 204, 302, 400, 401, 404, 429, 500, 599)


def calls_are_placed_as_declared(sample: Sample) -> Iterator[str]:
    """A carrier that says that it cannot place calls makes no request, and none is made for nobody's account."""
    carrier = sample.carrier()
    call = carrier.place_call(_order(), carrier.default_account())  # a simulator's account may have no key for it
    if call is not None and not carrier.can.place_calls:
        yield "place_calls is False, and place_call makes a request"
    if carrier.place_call(_order(), "no-such-account") is not None:
        yield "place_call takes an account that is none of the settings"
    if sample.carrier(dev=True).place_call(_order(), "") is not None:
        yield "without credentials place_call makes a request"


def requests_hide_what_is_secret(sample: Sample) -> Iterator[str]:
    """No key, number or URL of ours is shown when a request is printed, and none stands in its URL."""
    carrier = sample.carrier()
    call = carrier.place_call(_order(), carrier.default_account())
    if call is None:
        return
    secrets = [value for key, value in sample.account.settings().items() if any(w in key for w in ("token", "secret"))]
    for secret in (*secrets, TO, FROM, "sealed-by-us"):
        if secret in repr(call):
            yield f"a request shows {secret[:4]}… when it is printed"


def no_order_leads_elsewhere(sample: Sample) -> Iterator[str]:
    """The URL of a request does not depend on the order, and what can be no call's id makes none."""
    carrier = sample.carrier()
    account = carrier.default_account()
    calls = (carrier.place_call(_order(), account), carrier.place_call(_order("/../" + HOSTILE_TEXT), account))
    if _place(calls[0]) != _place(calls[1]):
        yield f"a session changes the URL of the request to {_place(calls[1])[:100]}"
    for bad in (*NOT_CALLS, ""):
        for name, call in (
            ("ask_call", carrier.ask_call(bad, account)),
            ("cancel_call", carrier.cancel_call(bad, bad, account)),
        ):
            if call is not None:
                yield f"{name} makes a request for the call {bad!r}: {call.method} {urlsplit(call.url).path}"


def any_answer_is_read(sample: Sample) -> Iterator[str]:
    """Whatever the API answers, it is understood; 2xx is never taken for a refusal, as the call may be dialled."""
    carrier = sample.carrier()
    for body in (*ANSWERS, *(bytes(sample.dice.randbytes(60)) for _ in range(20))):
        for status in STATUSES:
            yield from _read(carrier, status, body)


def _read(carrier: Carrier, status: int, body: bytes) -> Iterator[str]:
    try:
        placed, state = carrier.read_placed(status, body, {"retry-after": "soon"}), carrier.read_call(status, body)
    except Exception as error:
        yield f"reading {status} {body!r:.40} raised {type(error).__name__}"
        return
    done = 200 <= status < 300 and carrier.can.place_calls
    if not isinstance(placed, Placed if done else CarrierRefusal):
        yield f"the answer {status} {body!r:.40} to an order is read as {placed!r:.60}"
    if not isinstance(state, CallState):
        yield f"the answer {status} {body!r:.40} to a question is read as {state!r:.60}"


def _order(session: str = "s") -> CallOrder:
    return CallOrder(session, TO, FROM, SEALED, SEALED, STREAM_URL)


def _place(call: RestCall | None) -> str:
    return f"{call.method} {call.url}" if call is not None else ""


REST_RULES = (
    calls_are_placed_as_declared,
    requests_hide_what_is_secret,
    no_order_leads_elsewhere,
    any_answer_is_read,
)
