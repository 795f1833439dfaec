"""The carriers' words for states, in ours. The four agree more than they differ, so there is one table."""

from __future__ import annotations

_STATUS = {
    "queued": "ringing",
    "initiated": "ringing",
    "ringing": "ringing",
    "in-progress": "answered",
    "answered": "answered",
    "terminal": "ended",  # Exotel's EventType
}

_OUTCOME = {
    "completed": "completed",
    "answered": "completed",  # Twilio's DialCallStatus, when the callee's leg goes on elsewhere
    "busy": "busy",
    "no-answer": "no-answer",
    "timeout": "no-answer",  # Plivo: nobody picked up in time
    "failed": "failed",
    "canceled": "canceled",
    "cancelled": "canceled",
    "cancel": "canceled",  # Plivo's DialStatus
}

_STREAM = {
    "stream-started": "started",
    "stream-start": "started",
    "startstream": "started",
    "started": "started",
    "stream-stopped": "stopped",
    "stream-stop": "stopped",
    "stopstream": "stopped",
    "stopped": "stopped",
    "completed": "stopped",
    "stream-error": "failed",
    "stream-failed": "failed",  # Telnyx's documents disagree with each other
    "droppedstream": "failed",
    "failed": "failed",
    "degradedstream": "degraded",
}


def _word(raw: str) -> str:
    return raw.strip().lower().replace("_", "-")


def call_status(raw: str) -> str:
    """ "ringing", "answered", "ended" or ""."""
    word = _word(raw)
    return _STATUS.get(word) or ("ended" if word in _OUTCOME else "")


def outcome(raw: str) -> str:
    """How a call or a dial ended: "completed", "busy", "no-answer", "failed", "canceled" or ""."""
    return _OUTCOME.get(_word(raw), "")


def stream_state(raw: str) -> str:
    """ "started", "stopped", "failed", "degraded" or ""."""
    return _STREAM.get(_word(raw), "")


def answered_by(raw: str) -> str:
    """ "human", "machine" or "" (not known). Premium detection says human_residence, machine_end_beep and the
    like.
    """
    word = _word(raw)
    if word.startswith("human"):
        return "human"
    return "machine" if word.startswith(("machine", "fax")) else ""
