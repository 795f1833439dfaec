"""Plans for the tests of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gateway.audio.files import read_wav
from gateway.simulator import CALLER_RATE, CallPlan, Credentials, Faults
from gateway.simulator.plan import Pcm

SPEECH = Path(__file__).parents[2] / "gateway" / "assets" / "speech.wav"

TOKENS = Credentials(
    twilio_account_sid="AC8607e137928e86ec5c2474be65cfeaf6",
    twilio_auth_token="12345",
    telnyx_seed=bytes(range(32)),
    plivo_auth_id="MAXXXXXXXXXXXXXXXXXX",
    plivo_auth_token="ABCDE",
    exotel_account_sid="ACXXXX",
    exotel_webhook_secret="open sesame",
)


def speech(seconds: float) -> Pcm:
    """The beginning of the spoken fixture."""
    return read_wav(SPEECH)[0][: round(seconds * CALLER_RATE)]


def plan(carrier: str, base_url: str = "https://voice.example.com", **more: Any) -> CallPlan:
    """A call of half a second, signed."""
    behaviour = more.pop("behaviour", Faults())
    if isinstance(behaviour, dict):
        behaviour = Faults(**behaviour)
    more.setdefault("audio", np.zeros(0, np.int16))
    more.setdefault("credentials", TOKENS)
    return CallPlan(carrier=carrier, base_url=base_url, behaviour=behaviour, **more)
