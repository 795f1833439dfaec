"""What a simulated call is asked to be.

Who calls whom, what is said, and how the carrier misbehaves.

Plain frozen values. Nothing here opens a socket, so a plan can be built, printed and compared in a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.simulator.account import Account

Pcm = npt.NDArray[np.int16]

CALLER_RATE = 8000
"""Samples a second of `CallPlan.audio`: what a telephone line carries."""

DialResult = Literal["completed", "busy", "no-answer", "failed"]


@dataclass(frozen=True, slots=True)
class Faults:
    """Bad behaviour on demand. The default is a carrier at its best.

    Times are seconds since the caller began to talk (the first stream's first media message).
    """

    # Webhooks
    duplicate_webhook: bool = False
    """The voice webhook is posted twice at once, as a carrier does that retries too early."""
    bad_signature: bool = False
    unsigned: bool = False
    stale_timestamp: bool = False
    """Signed an hour ago; only Telnyx signs a time."""

    # The stream's life
    drop_stream_at: float | None = None
    """TCP reset without a close frame; the call lives, and the carrier goes on with its instructions."""
    close_stream_at: float | None = None
    """Close 1000 without `stop`; the call lives."""
    half_open_at: float | None = None
    """Neither reads nor writes any more, and closes nothing."""
    hangup_at: float | None = None
    slow_reader: bool = False
    """Reads for a tenth of each second."""
    replay_token: bool = False
    """When the call is over its stream URL is opened again with the same `start`; see `CallReport.replayed`."""
    stream_path: str | None = None
    """Open this path (and query) without asking the webhook: a static stream."""

    # Messages
    never_start: bool = False
    connected_twice: bool = False
    second_start: bool = False
    """`start` again after one second of audio."""
    unknown_events: bool = False
    binary_junk: bool = False
    bad_json: bool = False
    invalid_utf8: bool = False
    oversized: bool = False
    """One text message of 1 MB."""
    foreign_track: bool = False
    """Each media message comes a second time, as the other track's (`both_tracks`): it has to be ignored."""
    shuffle_media: bool = False
    """Every tenth media message changes places with the next: Telnyx does not promise order."""
    duplicate_media: bool = False
    """Every tenth media message is sent twice."""
    numbers_as_strings: bool = False
    numbers_as_ints: bool = False
    dtmf: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call to place.

    carrier        one of CARRIERS
    base_url       where the gateway really listens
    public_url     what the gateway's settings call itself: signatures are over it, and stream URLs below it are
                   dialled at base_url. Default: base_url
    audio          what the caller says: int16, CALLER_RATE, mono
    credentials    the account at each carrier; None: nothing is signed, as for `gateway serve --dev`
    query          added to the voice URL, as its user configured it at the carrier
    parameters     custom parameters of a static stream's `start` (a TwiML Bin's <Parameter>)
    linger         seconds to wait at most for the tail of the echo after the last frame
    seconds        the caller stays so long, silent after the audio; None: as long as the audio lasts
    encoding       the leg's codec, "PCMA" or "PCMU", where the carrier announces it
    dial_result    how the other end of a <Dial> answers
    dial_seconds   how long a dialled party talks
    status         whether status callbacks are posted to /webhooks/{carrier}/status
    options        what only this carrier knows, as its own file says; None: its defaults
    direction      "inbound", or "outbound" for the answer of a call that the gateway placed
    """

    carrier: str
    base_url: str
    audio: Pcm
    public_url: str | None = None
    credentials: Mapping[str, Account] | None = None
    from_number: str = "+15550100001"
    to_number: str = "+15550100000"
    query: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    linger: float = 2.0
    seconds: float | None = None
    encoding: str | None = None
    faults: Faults = field(default_factory=Faults)
    dial_result: DialResult = "completed"
    dial_seconds: float = 0.0
    status: bool = True
    options: object = None
    direction: Literal["inbound", "outbound"] = "inbound"

    @property
    def public(self) -> str:
        """The gateway's public base URL, without a trailing slash."""
        return (self.public_url or self.base_url).rstrip("/")

    @property
    def stay(self) -> float:
        """Seconds that the caller means to stay once they can talk."""
        talk = len(self.audio) / CALLER_RATE
        return talk if self.seconds is None else self.seconds
