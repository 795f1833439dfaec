"""Who may be called, from which number, with what: looked at before anything is done for a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.dialout.limits import DialoutLimits
from gateway.dialout.request import DialRefusal, DialRequest
from gateway.node.dial_policy import DialPolicy, NotDialled, as_dialled
from gateway.node.node import Node
from gateway.node.services import Service

MAX_BODY = 64 * 1024
"""Bytes of JSON that a bot is given."""
MAX_RELAY_BODY = 4096
"""The same where the bot is a `relay` worker: it gets them in the URL of its link (see `open_link.MAX_BODY_QUERY`)."""
MAX_KEY = 255
"""Characters of an idempotency key."""
MAX_CALL_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that may be dialled: numbers in E.164, carrier and service by name. account: of the carrier."""

    request: DialRequest
    service: Service
    account: str


def check(node: Node, limits: DialoutLimits, request: DialRequest) -> Checked | DialRefusal:
    """Look at a request. The first thing that is wrong with it decides."""
    name = request.carrier or (next(iter(node.carriers)) if len(node.carriers) == 1 else "")
    service = node.services.choose(request.service_host, "")
    refusal = (
        _check_numbers(limits, request)
        or _check_carrier(node, name, request)
        or _check_service(node, service, request)
        or _check_rest(request)
    )
    if refusal is not None:
        return refusal
    assert service is not None
    to, from_number = as_dialled(request.to), as_dialled(request.from_number)
    assert isinstance(to, str) and isinstance(from_number, str)
    named = replace(request, carrier=name, service_host=service.host, to=to, from_number=from_number)
    return Checked(named, service, node.carriers[name].default_account())


def _check_numbers(limits: DialoutLimits, request: DialRequest) -> DialRefusal | None:
    if not limits.allow:
        return DialRefusal(403, "dialout_closed", "Dial-out is closed: [dialout] allow names no numbers.")
    to = as_dialled(request.to)
    if isinstance(to, NotDialled):
        status, code = (403, "never_dialled") if to.never else (422, "bad_number")
        return DialRefusal(status, code, f"to: {to.reason}.", "to")
    if not DialPolicy(limits.allow)(to):
        return DialRefusal(403, "not_allowed", "to: the number is not in [dialout] allow.", "to")
    ours = as_dialled(request.from_number)
    if isinstance(ours, NotDialled) and not ours.never:
        return DialRefusal(422, "bad_number", f"from: {ours.reason}.", "from")
    if ours not in limits.callers:
        return DialRefusal(403, "not_our_number", "from: the number is not in [dialout] callers.", "from")
    return None


def _check_carrier(node: Node, name: str, request: DialRequest) -> DialRefusal | None:
    carrier = node.carriers.get(name)
    if carrier is None:
        there_are = ", ".join(sorted(node.carriers)) or "none"
        return DialRefusal(
            422, "unknown_carrier", f"carrier: must name one that is set up here: {there_are}.", "carrier"
        )
    if not carrier.can.place_calls:
        return DialRefusal(409, "cannot_dial", "carrier: this carrier cannot place calls.", "carrier")
    if lacking := carrier.lacks_to_dial():
        why = f"carrier: [carriers.{name}] lacks {lacking}, without which it places no calls."
        return DialRefusal(409, "no_key", why, "carrier")
    if request.machine_detection != "off" and not carrier.can.machine_detection:
        why = "machine_detection: this carrier does not tell a machine from a person."
        return DialRefusal(409, "no_machine_detection", why, "machine_detection")
    return None


def _check_service(node: Node, service: Service | None, request: DialRequest) -> DialRefusal | None:
    if service is None:
        return DialRefusal(422, "unknown_service", "serviceHost: there is no such service.", "serviceHost")
    return check_body(node, service, request.body)


def check_body(node: Node, service: Service, body: Mapping[str, Any]) -> DialRefusal | None:
    """Look whether this body can reach the service's bots."""
    try:
        size = len(orjson.dumps(dict(body)))
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return DialRefusal(422, "bad_body", "body: cannot be written as JSON.", "body")
    if size > MAX_BODY:
        return DialRefusal(422, "body_too_large", f"body: more than {MAX_BODY} bytes of JSON.", "body")
    if node.protocol_of(service) == "relay" and size > MAX_RELAY_BODY:
        why = f"body: more than {MAX_RELAY_BODY} bytes of JSON, and a relay worker gets it in a URL."
        return DialRefusal(422, "body_too_large", why, "body")
    return None


def _check_rest(request: DialRequest) -> DialRefusal | None:
    if not 0 <= request.max_call_seconds <= MAX_CALL_SECONDS:
        why = f"max_call_seconds: must be from 1 to {MAX_CALL_SECONDS}."
        return DialRefusal(422, "bad_duration", why, "max_call_seconds")
    if len(request.idempotency_key) > MAX_KEY or not request.idempotency_key.isprintable():
        return DialRefusal(
            422, "bad_key", f"Idempotency-Key: at most {MAX_KEY} printable characters.", "Idempotency-Key"
        )
    return None
