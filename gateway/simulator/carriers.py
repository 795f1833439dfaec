"""The carriers that can be simulated, and the accounts to simulate them with.

A carrier from another package brings a `Simulator` of its own; the command that is asked for it adds it here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from gateway.errors import UserError
from gateway.simulator import exotel_flow, plivo, telnyx, twilio
from gateway.simulator.account import Account
from gateway.simulator.call import Flow, Simulator, static_flow
from gateway.simulator.carrier import Request, SimulatedCarrier
from gateway.simulator.plan import CallPlan

_SIMULATORS: dict[str, Simulator] = {
    one.SIMULATOR.carrier.name: one.SIMULATOR for one in (twilio, telnyx, plivo, exotel_flow)
}

CARRIERS = tuple(_SIMULATORS)
"""Those that ship with the gateway."""


class Credentials(dict[str, Account]):
    """An account at each carrier, by the carrier's name."""

    @classmethod
    def generate(cls) -> Self:
        """Make random accounts of the shapes that the carriers give out."""
        return cls({name: simulator.carrier.account_type.generate() for name, simulator in _SIMULATORS.items()})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Take the accounts that the environment names."""
        return cls({name: one.carrier.account_type.from_env(environ) for name, one in _SIMULATORS.items()})


def add_simulator(name: str, simulator: Simulator) -> None:
    """Let calls be placed as this carrier."""
    _SIMULATORS[name] = simulator


def simulator_of(name: str) -> Simulator:
    """Return the simulator of a carrier. Raises UserError if there is none."""
    simulator = _SIMULATORS.get(name)
    if simulator is None:
        raise UserError(f"carrier {name!r} is not one of {', '.join(_SIMULATORS)}")
    return simulator


def carrier_of(plan: CallPlan) -> SimulatedCarrier:
    """Make the carrier's state of the planned call.

    Raises UserError for a carrier that is not simulated.
    """
    return simulator_of(plan.carrier).carrier(plan)


def flow_of(plan: CallPlan) -> Flow:
    """Return what leads the planned call."""
    return static_flow if plan.faults.stream_path is not None else simulator_of(plan.carrier).flow


def load_signer(plan: CallPlan) -> None:
    """Sign something now.

    Importing an SDK takes up to a second, and would stall every call that is talking.

    Raises UserError for a carrier that is not simulated, and for a secret that cannot sign.
    """
    try:
        carrier_of(plan).headers(Request("POST", plan.public), b"")
    except ValueError as error:
        raise UserError(str(error)) from None
