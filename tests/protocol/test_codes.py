from __future__ import annotations

from gateway.protocol.codes import CloseCode, EndReason


def test_the_reasons_are_the_words_of_the_contract() -> None:
    assert {str(r) for r in EndReason} == {
        "caller_hangup",
        "bot_hangup",
        "api_hangup",
        "transferred",
        "max_duration",
        "hold_timeout",
        "busy",
        "no_worker",
        "stream_lost",
        "worker_lost",
        "bot_error",
        "unsupported_codec",
        "drained",
        "rejected",
        "no_answer",
        "canceled",
        "failed",
        "unknown_end",
    }


def test_our_close_codes_are_those_of_the_contract() -> None:
    assert (
        CloseCode.NORMAL_CLOSURE,
        CloseCode.NO_STATUS_RECEIVED,
        CloseCode.ABNORMAL_CLOSURE,
        CloseCode.INTERNAL_ERROR,
    ) == (
        1000,
        1005,
        1006,
        1011,
    )
    assert (CloseCode.SUPERSEDED, CloseCode.DRAINING) == (4001, 4002)


def test_a_raising_bot_has_the_number_of_an_internal_error() -> None:
    assert CloseCode.BOT_RAISED == CloseCode.INTERNAL_ERROR == 1011
