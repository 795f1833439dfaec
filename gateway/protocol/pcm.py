"""`gateway.pcm.v1`: the messages between a gateway and a worker over a link.

Binary messages are audio (s16le mono at the service's rate). Text messages are JSON objects with a `type`; both
sides ignore types and fields that they do not know, so that either may be newer than the other.

Encoding and decoding are here for both sides. `decode_*` never raise: None for what cannot be understood.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from gateway.protocol.fields import bytes_of, int_of, json_object, str_of

SUBPROTOCOL = "gateway.pcm.v1"
SESSION_HEADER = "x-daily-session-id"
FENCE_HEADER = "x-gateway-fence"
CALL_HEADER = "x-gateway-call"
"""Of a `relay` link to a worker host's worker, which is told nothing else by us: base64 of a JSON object of strings,
`carrier`, `account`, `from` and `to`."""

MAX_STATE = 16 * 1024
"""Bytes of a worker's `state`."""
MAX_TEXT = 64 * 1024
"""Bytes of a text message on the link; `start` carries the caller's body and the last state."""
MAX_AUDIO = 4 * 1024 * 1024
"""Bytes of one audio message on the link: 43 s at 48 kHz. Longer speech comes in several."""


# To the worker.


@dataclass(frozen=True, slots=True)
class Start:
    """The session begins, or this worker takes it over.

    call: CallData in its wire keys.
    sample_rate: Hz, of the link's PCM.
    attempt: the number of worker starts so far, from 1.
    state: what the last worker has left, b"" if nothing.
    """

    session_id: str
    service_host: str
    carrier: str
    fence: int
    call: Mapping[str, Any]
    sample_rate: int
    resumed: bool = False
    attempt: int = 1
    state: bytes = b""


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class MarkReached:
    """A mark of the bot's: played, or flushed by a clear, a failover or a lost stream."""

    name: str
    played: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """Answer to a clear."""

    played_ms: int
    dropped_ms: int


@dataclass(frozen=True, slots=True)
class Played:
    """All the audio that the caller has heard so far."""

    ms: int


@dataclass(frozen=True, slots=True)
class Status:
    """Something happened to the call. fields: what comes with the status, such as `what` and `reason`."""

    status: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """The session is over. reason: an `EndReason`; one of a newer gateway's passes as it came."""

    reason: str


ToWorker: TypeAlias = Start | Dtmf | MarkReached | Cleared | Played | Status | Stop

# To the gateway.


@dataclass(frozen=True, slots=True)
class Ready:
    """The bot listens."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop all audio not yet played."""


@dataclass(frozen=True, slots=True)
class SetMark:
    """Report when the audio sent so far has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class SendDtmf:
    """Press these keys, behind the audio."""

    digits: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the caller over to this number, behind the audio."""

    to: str


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call, behind the audio."""

    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """Keep this for the worker that serves the session next."""

    state: bytes


@dataclass(frozen=True, slots=True)
class PauseRecording:
    """Record silence from now on. A gateway that does not know this message ignores it."""


@dataclass(frozen=True, slots=True)
class ResumeRecording:
    """Record again from now on."""


ToGateway: TypeAlias = Ready | Clear | SetMark | SendDtmf | Transfer | Hangup | State | PauseRecording | ResumeRecording


def encode(message: ToWorker | ToGateway) -> str:
    """The text message for any of the above."""
    return orjson.dumps(_fields(message)).decode()


def _fields(message: ToWorker | ToGateway) -> dict[str, Any]:
    match message:
        case Start():
            return {
                "type": "start",
                "session_id": message.session_id,
                "service_host": message.service_host,
                "carrier": message.carrier,
                "fence": message.fence,
                "call": dict(message.call),
                "audio": {"encoding": "pcm_s16le", "sample_rate": message.sample_rate, "channels": 1},
                "resumed": message.resumed,
                "attempt": message.attempt,
                "state": base64.b64encode(message.state).decode(),
            }
        case Dtmf(digit):
            return {"type": "dtmf", "digit": digit}
        case MarkReached(name, played):
            return {"type": "mark", "name": name, "played": played}
        case Cleared(played_ms, dropped_ms):
            return {"type": "cleared", "played_ms": played_ms, "dropped_ms": dropped_ms}
        case Played(ms):
            return {"type": "played", "ms": ms}
        case Status(status, fields):
            return {**fields, "type": "status", "status": status}
        case Stop(reason):
            return {"type": "stop", "reason": reason}
        case Ready():
            return {"type": "ready"}
        case Clear():
            return {"type": "clear"}
        case SetMark(name):
            return {"type": "mark", "name": name}
        case SendDtmf(digits):
            return {"type": "dtmf", "digits": digits}
        case Transfer(to):
            return {"type": "transfer", "to": to}
        case Hangup(reason):
            return {"type": "hangup", "reason": reason}
        case State(state):
            return {"type": "state", "state": base64.b64encode(state).decode()}
        case PauseRecording():
            return {"type": "pause_recording"}
        case ResumeRecording():
            return {"type": "resume_recording"}


def decode_to_worker(text: str | bytes) -> ToWorker | None:
    """The gateway's message, or None for an unknown type or fields that make no sense."""
    m = json_object(text)
    if m is None:
        return None
    match m.get("type"):
        case "start":
            return _start(m)
        case "dtmf":
            return Dtmf(str_of(m, "digit"))
        case "mark":
            return MarkReached(str_of(m, "name"), m.get("played") is True)
        case "cleared":
            return Cleared(int_of(m, "played_ms"), int_of(m, "dropped_ms"))
        case "played":
            return Played(int_of(m, "ms"))
        case "status":
            rest = {k: v for k, v in m.items() if k not in ("type", "status")}
            return Status(str_of(m, "status"), rest)
        case "stop":
            return Stop(str_of(m, "reason"))
    return None


def decode_to_gateway(text: str | bytes) -> ToGateway | None:
    """The worker's message, or None for an unknown type or fields that make no sense."""
    m = json_object(text)
    if m is None:
        return None
    match m.get("type"):
        case "ready":
            return Ready()
        case "clear":
            return Clear()
        case "mark":
            return SetMark(str_of(m, "name")[:256])
        case "dtmf":
            digits = keys_in(str_of(m, "digits"))[:64]
            return SendDtmf(digits) if digits else None
        case "transfer":
            return Transfer(to) if (to := str_of(m, "to")[:256]) else None
        case "hangup":
            return Hangup(str_of(m, "reason")[:256])
        case "state":
            state = bytes_of(m, "state")
            return State(state) if state is not None and len(state) <= MAX_STATE else None
        case "pause_recording":
            return PauseRecording()
        case "resume_recording":
            return ResumeRecording()
    return None


def keys_in(text: str) -> str:
    """Keep the keys of a telephone, and the pauses that all carriers know: w is 0.5 s, W is 1 s."""
    return "".join(key for key in text if key in "0123456789*#ABCDabcdwW")


def _start(m: dict[str, Any]) -> Start | None:
    call, audio = m.get("call"), m.get("audio")
    if not isinstance(call, dict) or not isinstance(audio, dict) or int_of(audio, "sample_rate") <= 0:
        return None
    return Start(
        session_id=str_of(m, "session_id"),
        service_host=str_of(m, "service_host"),
        carrier=str_of(m, "carrier"),
        fence=int_of(m, "fence"),
        call=call,
        sample_rate=int_of(audio, "sample_rate"),
        resumed=m.get("resumed") is True,
        attempt=int_of(m, "attempt") or 1,
        state=bytes_of(m, "state") or b"",
    )
