"""How sessions end and how links are closed: the vocabularies of both worker protocols."""

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
    """WebSocket close codes on links and streams: the names of RFC 6455, section 7.4.1; 4000 to 4999 are ours."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    """A bug of the side that closes."""
    BOT_RAISED = 1011
    """The same number, on a link, from a worker: its bot has failed, and says so in its own log."""
    SUPERSEDED = 4001
    """A higher fence took the session: no failure; this side neither claims again nor hangs up."""
    DRAINING = 4002
