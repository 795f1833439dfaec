"""Numbers as people write them, and why others are not dialled."""

from __future__ import annotations

import pytest

from gateway.node.dial_policy import DialPolicy, NotDialled, as_dialled


@pytest.mark.parametrize(
    "written",
    [
        "+12025550143",
        "+1 (202) 555-0143",
        "+1-202-555-0143",
        "+1.202.555.0143",
        " +1 202 555 0143 ",
        "tel:+1-202-555-0143",
        "TEL:+12025550143;phone-context=example.com",
        "+1\u00a0202\u2011555\u20110143",
    ],
)
def test_a_number_is_dialled_however_it_is_written(written):
    assert as_dialled(written) == "+12025550143"


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("sip:alice@example.com", "sip: address"),
        ("SIPS:alice@example.com", "sips: address"),
        ("client:alice", "client: address"),
        ("+12025550143;ext=12", "extension"),
        ("+1 202 555 0143 x12", "extension"),
        ("+1 202 555 0143 ext. 12", "extension"),
        ("2025550143", "country code"),
        ("112", "never dialled"),
        ("+1", "not a telephone number"),
        ("", "not a telephone number"),
        ("+1" + "2" * 200, "not a telephone number"),
        ("+1900555014a", "not a telephone number"),
        ("+19005550143", "never dialled"),
        ("+870773111632", "never dialled"),
    ],
)
def test_a_refusal_names_its_cause(written, cause):
    refused = as_dialled(written)
    assert isinstance(refused, NotDialled)
    assert cause in refused.reason


def test_the_policy_takes_only_what_is_allowed():
    policy = DialPolicy(("+1", "GB"))
    assert policy("+12025550143") and policy("+442079460000")
    assert not policy("+33140000000")
    assert not policy("+1 202 555 0143"), "what is not E.164 has not been read yet"
    assert not DialPolicy()("+12025550143")
