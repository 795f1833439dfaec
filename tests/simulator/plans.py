"""Plans for the tests of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gateway.audio.files import read_wav
from gateway.simulator import CALLER_RATE, CallPlan, Credentials, Faults
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.plan import Pcm
from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.telnyx import TelnyxAccount
from gateway.simulator.twilio import TwilioAccount

SPEECH = Path(__file__).parents[2] / "gateway" / "assets" / "speech.wav"

TWILIO = TwilioAccount("AC8607e137928e86ec5c2474be65cfeaf6", "12345")
TOKENS = Credentials(
    twilio=TWILIO,
    telnyx=TelnyxAccount(bytes(range(32))),
    plivo=PlivoAccount("MAXXXXXXXXXXXXXXXXXX", "ABCDE"),
    exotel=ExotelAccount("ACXXXX", "open sesame"),
)


def speech(seconds: float) -> Pcm:
    """The beginning of the spoken fixture."""
    return read_wav(SPEECH)[0][: round(seconds * CALLER_RATE)]


def plan(carrier: str, base_url: str = "https://voice.example.com", **more: Any) -> CallPlan:
    """A call of half a second, signed."""
    faults = more.pop("faults", Faults())
    if isinstance(faults, dict):
        faults = Faults(**faults)
    more.setdefault("audio", np.zeros(0, np.int16))
    more.setdefault("credentials", TOKENS)
    return CallPlan(carrier=carrier, base_url=base_url, faults=faults, **more)
