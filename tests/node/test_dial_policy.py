"""Who may be dialled: nobody until somebody is allowed, and some never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.node.dial_policy import DialPolicy


@pytest.mark.parametrize("to", ["+14155550123", "+442071838750", "", "911", "sip:a@b"])
def test_nobody_without_a_rule(to):
    assert not DialPolicy()(to)


@pytest.mark.parametrize(
    ("to", "allowed"),
    [
        ("+14155550123", True),
        ("+442071838750", True),
        ("+33142685300", False),
        ("+19005550123", False),  # premium
        ("+449098790000", False),  # premium
        ("+448431234567", False),  # shared cost
        ("+870773111632", False),  # satellite
        ("+881612345678", False),
        ("+979123456789", False),
        ("14155550123", False),
        ("+1", False),
        ("+1415555012345678", False),
        ("911", False),
        ("sip:+14155550123@example.com", False),
        ("+1٤155550123", False),
        ("", False),
    ],
)
def test_prefixes_and_regions(to, allowed):
    assert DialPolicy(("+1", "GB", "+870", "+881", "+979"))(to) is allowed


def test_a_region_is_more_than_its_prefix():
    """Canada shares +1."""
    assert DialPolicy(("US",))("+14155552671")
    assert not DialPolicy(("US",))("+14165552671")


@given(st.text(max_size=40))
def test_no_text_raises(text):
    DialPolicy(("+1", "GB"))(text)
