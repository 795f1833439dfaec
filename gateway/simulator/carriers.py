"""The carriers that can be simulated: each one's side of the wire, and the flow that its calls follow.

A carrier from another package brings a `Simulator` of its own; the command that is asked for it adds it here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import UserError
from gateway.simulator.carrier import SimulatedCarrier
from gateway.simulator.exotel import ExotelSide
from gateway.simulator.exotel_flow import exotel_flow
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
    """One carrier as a client. side: makes the state of one call. flow: leads the call through its instructions."""

    side: type[SimulatedCarrier]
    flow: Flow


TWILIO = Simulator(TwilioSide, lambda call: xml_flow(call, TWIML))
TELNYX = Simulator(TelnyxSide, lambda call: xml_flow(call, TEXML))
PLIVO = Simulator(PlivoSide, lambda call: xml_flow(call, PLIVO_XML))
EXOTEL = Simulator(ExotelSide, exotel_flow)

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
