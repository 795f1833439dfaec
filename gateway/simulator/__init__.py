"""The other end of the wire: four carriers as clients, for tests, demonstrations and load.

Written from the carriers' documents and captures, and importing none of the gateway's readers and writers.

    plan      what is asked for                      twilio, telnyx, plivo, exotel   one carrier each, over `side`
    call      a call's life: `place_call`            xml, xml_flow, exotel_flow      what answers mean
    stream    one media stream, over `socket`        talker, voice                   who talks on it
    playout   what the caller hears                  report, echo                    what came of it
    recorder  writes a call down                     replay                          plays one again
"""

from __future__ import annotations

from gateway.simulator.call import place_call
from gateway.simulator.carriers import CARRIERS
from gateway.simulator.plan import CALLER_RATE, CallPlan, Credentials, Faults
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
