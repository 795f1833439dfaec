"""The carriers' REST APIs as local servers, and the calls that are placed by them.

A call placed here rings, is answered, busy, or not answered; it fetches its answer URL, opens its stream and talks, all
as the calls of `gateway.simulator` do, and obeys what the REST API asks of it afterwards.

    server                            `SimulatedCarriers`: one process, one port, a path for each carrier
    twilio, telnyx, plivo, exotel     one carrier's API each, and what it tells of a call that it has placed
    api                               what the four have in common: a request comes in, faults, pace
    call                              one placed call: ring, answer, conversation, control, end
    order                             what was asked for, in no carrier's words
    plan                              what becomes of a call to a number; the table of such numbers
"""

from __future__ import annotations

from gateway.simulator.rest.call import PlacedCall
from gateway.simulator.rest.plan import NUMBERS, Plan
from gateway.simulator.rest.server import Pace, SimulatedCarriers, usual_pace

__all__ = ["NUMBERS", "Pace", "PlacedCall", "Plan", "SimulatedCarriers", "usual_pace"]
