"""The carriers that can be simulated: each one's side of the wire, and the flow that its calls follow.

A carrier from another package brings a `Simulator` of its own; the command that is asked for it adds it here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import UserError
from gateway.simulator.carrier import SimulatedCarrier
from gateway.simulator.exotel import ExotelSide
from gateway.simulator.exotel_flow import exotel_flow
from gateway.simulator.plan import Credentials
from gateway.simulator.plivo import PlivoSide
from gateway.simulator.telnyx import TelnyxSide
from gateway.simulator.twilio import TwilioSide
from gateway.simulator.xml import PLIVO_XML, TEXML, TWIML
from gateway.simulator.xml_flow import xml_flow

if TYPE_CHECKING:
    from gateway.simulator.call import Call

Flow = Callable[["Call"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Simulator:
    """One carrier as a client.

    side: makes the state of one call. flow: leads the call through its instructions. settings: the keys of
    `[carriers.<name>]` in the gateway's settings that belong to these credentials.
    """

    side: type[SimulatedCarrier]
    flow: Flow
    settings: Callable[[Credentials], Mapping[str, str]]


TWILIO = Simulator(
    TwilioSide,
    lambda call: xml_flow(call, TWIML),
    lambda ids: {"account_sid": ids.twilio_account_sid, "auth_token": ids.twilio_auth_token},
)
TELNYX = Simulator(
    TelnyxSide,
    lambda call: xml_flow(call, TEXML),
    lambda ids: {"public_key": ids.telnyx_public_key},
)
PLIVO = Simulator(
    PlivoSide,
    lambda call: xml_flow(call, PLIVO_XML),
    lambda ids: {"auth_id": ids.plivo_auth_id, "auth_token": ids.plivo_auth_token},
)
EXOTEL = Simulator(
    ExotelSide,
    exotel_flow,
    lambda ids: {"account_sid": ids.exotel_account_sid, "webhook_secret": ids.exotel_webhook_secret},
)

_SIMULATORS = {"twilio": TWILIO, "telnyx": TELNYX, "plivo": PLIVO, "exotel": EXOTEL}

CARRIERS = tuple(_SIMULATORS)
"""Those that ship with the gateway."""


def add_simulator(name: str, simulator: Simulator) -> None:
    """Let calls be placed as this carrier."""
    _SIMULATORS[name] = simulator


def simulator_of(name: str) -> Simulator:
    """The simulator of the carrier of that name. Raises UserError if there is none."""
    simulator = _SIMULATORS.get(name)
    if simulator is None:
        raise UserError(f"carrier {name!r} is not one of {', '.join(_SIMULATORS)}")
    return simulator
