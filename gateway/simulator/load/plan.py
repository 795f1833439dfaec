"""What a load is asked to be."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson

from gateway.audio.files import convert
from gateway.errors import RecordingError
from gateway.recording import Recording
from gateway.simulator.account import Account
from gateway.simulator.plan import CALLER_RATE, CallPlan, Pcm
from gateway.simulator.voice import Encoding

LINGER = 2.0
"""Seconds that each caller waits at most for the tail of the echo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Many calls.

    carriers     names out of simulator.CARRIERS: the calls take turns
    calls        how many in all
    rate         started in a second
    seconds      each caller stays so long
    audio        what each says, over and over: int16, CALLER_RATE
    hold_audio   how the gateway's hold audio begins, by which it is known: int16, CALLER_RATE; None: not looked for
    the others   as in CallPlan
    """

    carriers: tuple[str, ...]
    base_url: str
    calls: int
    rate: float
    seconds: float
    audio: Pcm
    hold_audio: Pcm | None = None
    public_url: str | None = None
    credentials: Mapping[str, Account] | None = None
    from_number: str = "+15550100001"
    to_number: str = "+15550100000"
    query: Mapping[str, str] = field(default_factory=dict)

    def call(self, index: int) -> CallPlan:
        """Make the plan of one call."""
        return CallPlan(
            carrier=self.carriers[index % len(self.carriers)],
            base_url=self.base_url,
            public_url=self.public_url,
            audio=self.audio,
            credentials=self.credentials,
            from_number=self.from_number,
            to_number=self.to_number,
            query=self.query,
            seconds=self.seconds,
            linger=LINGER,
        )


def caller_audio(recording: Recording) -> Pcm:
    """Return what the caller of a recorded call said, int16 at CALLER_RATE.

    Raises RecordingError when they said nothing.
    """
    payloads: list[bytes] = []
    for entry in recording.entries:
        if entry.kind != "message" or entry.party != "carrier":
            continue
        try:
            message = orjson.loads(entry.text)
            payloads.append(base64.b64decode(message["media"]["payload"], validate=True))
        except (ValueError, LookupError, TypeError, binascii.Error):
            continue  # not media
    encoding = Encoding(recording.encoding, recording.rate)
    pcm = encoding.decode(b"".join(payloads))
    if not np.any(pcm):
        raise RecordingError("nothing was said in it")
    return convert(pcm, recording.rate, CALLER_RATE)
