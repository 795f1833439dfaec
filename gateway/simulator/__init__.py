"""Play the other end of the wire: four carriers as clients.

For tests, demonstrations and load.

Written from the carriers' documents and captures, and importing none of the gateway's readers and writers.

    place, replay, load/   one call; a recorded one again; many
    rest/                  the carriers' REST APIs, and the calls that are placed by them
    carriers               the table of those that can be simulated, and their accounts
    twilio, telnyx, plivo, exotel_flow    one carrier each: its account, its HTTP side, its wire, its dialect
    xml_flow, twiml, plivo_xml, xml       what an XML answer means
    call                   a call's life, led by its carrier's flow
    report, echo           what came of it
    speaker, stream        who talks on a media stream, over `socket`; `playout` is what the caller hears
    http, recorder         the requests; what is written down of a call
    carrier, account       what every simulated carrier must be: `SimulatedCarrier`, `Wire`, `Account`
    plan, voice            what is asked for; what is said
"""

from __future__ import annotations

from gateway.simulator.carriers import CARRIERS, Credentials
from gateway.simulator.place import place_call
from gateway.simulator.plan import CALLER_RATE, CallPlan, Faults
from gateway.simulator.recorder import Recorder
from gateway.simulator.replay import replay
from gateway.simulator.report import CallReport

__all__ = [
    "CALLER_RATE",
    "CARRIERS",
    "CallPlan",
    "CallReport",
    "Credentials",
    "Faults",
    "Recorder",
    "place_call",
    "replay",
]
