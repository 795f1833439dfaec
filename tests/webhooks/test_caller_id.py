"""Whose number a call that we pass on comes from."""

from __future__ import annotations

import pytest

from gateway.pool.facts import Facts, own_number

OURS, THEIRS = "+15550100", "+15550199"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(direction="inbound", from_number=THEIRS, to_number=OURS), OURS),
        (Facts(direction="outbound", from_number=OURS, to_number=THEIRS), OURS),
        (Facts(direction="", from_number=THEIRS, to_number=OURS), OURS),
        (Facts(direction="inbound", from_number=THEIRS, to_number="sip:bot@acme.example"), ""),
        (Facts(direction="outbound", from_number="client:alice", to_number=THEIRS), ""),
    ],
)
def test_a_call_that_is_passed_on_comes_from_our_own_number(facts, expected):
    assert own_number(facts) == expected
