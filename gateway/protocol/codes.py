"""How sessions end, and how links are closed: the closed vocabularies of both worker protocols."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class EndReason(StrEnum):
    """Why a session ended. The worker's `stop`, the record, the metric and the log all use this word."""

    CALLER_HANGUP = "caller_hangup"
    BOT_HANGUP = "bot_hangup"
    API_HANGUP = "api_hangup"
    TRANSFERRED = "transferred"
    MAX_DURATION = "max_duration"
    HOLD_TIMEOUT = "hold_timeout"
    BUSY = "busy"
    NO_WORKER = "no_worker"
    STREAM_LOST = "stream_lost"
    WORKER_LOST = "worker_lost"
    BOT_ERROR = "bot_error"
    UNSUPPORTED_CODEC = "unsupported_codec"
    DRAINED = "drained"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    CANCELED = "canceled"
    FAILED = "failed"
    UNKNOWN_END = "unknown_end"


class CloseCode(IntEnum):
    """WebSocket close codes on links and streams (RFC 6455, section 7.4; 4000-4999 are ours)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SUPERSEDED = 4001
    """A higher fence took the session: no failure, nobody claims again, nobody hangs up."""
    DRAINING = 4002
