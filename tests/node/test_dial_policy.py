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


@pytest.mark.parametrize("to", ["+18095551234", "+18765551234", "+12645551234", "+17215551234", "+17872345678"])
def test_an_island_of_plus_one_must_be_named(to):
    for rules in [("+1",), ("+18",), (to[:4],), ("US", "CA")]:
        assert not DialPolicy(rules)(to), rules
    assert DialPolicy((to[:5],))(to)


def test_an_islands_region_names_it():
    assert DialPolicy(("+1", "DO"))("+18095551234")
    assert not DialPolicy(("+1", "DO"))("+18765551234")


@pytest.mark.parametrize("to", ["+19115550123", "+4499912345678", "+1911", "+112"])
def test_what_might_reach_an_emergency_is_never_dialled(to):
    assert not DialPolicy(("+1", "+44", "+11"))(to)


@pytest.mark.parametrize(
    "to",
    [
        *("+4490987908791", "+190023456781", "+338991234567"),  # premium, and a digit more than it has
        *("+19001234567", "+49900123456", "+4990012345678"),  # numbers that nobody has, among premium ones
        *("+44118500", "+4911833", "+33118712", "+35311850"),  # directory enquiries
    ],
)
def test_what_a_switch_may_read_as_premium_or_short_is_never_dialled(to):
    assert not DialPolicy((to[:2], to[:3]))(to)


@pytest.mark.parametrize("to", ["+15550100", "+15550123456", "+442079460000", "+447700900123", "+919494865411"])
def test_numbers_that_nobody_has_are_dialled_if_of_a_usual_kind(to):
    assert DialPolicy((to[:3],))(to)


@given(st.text(max_size=40))
def test_no_text_raises(text):
    DialPolicy(("+1", "GB"))(text)
