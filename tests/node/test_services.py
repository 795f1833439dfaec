"""Which service answers a call: named, dialled, default; never a guess."""

from __future__ import annotations

import pytest

from gateway.node.services import Service, Services

SUPPORT = Service("support.acme", numbers=("+15550100000",))
SALES = Service("sales.acme", default=True)
OTHER = Service("other.acme")


@pytest.mark.parametrize(
    ("named", "dialled", "expected"),
    [
        ("sales.acme", "+15550100000", SALES),
        ("", "+15550100000", SUPPORT),
        ("", "+15550199999", SALES),
        ("", "", SALES),
        ("nobody.acme", "+15550100000", None),
    ],
)
def test_the_first_that_applies(named, dialled, expected):
    assert Services([SUPPORT, SALES, OTHER]).choose(named, dialled) == expected


def test_the_only_service_needs_no_default():
    assert Services([OTHER]).choose("", "+1") == OTHER


def test_two_without_a_default_refuse_what_neither_claims():
    assert Services([SUPPORT, OTHER]).choose("", "+1") is None


def test_services_are_found_by_name():
    services = Services([SUPPORT, OTHER])
    assert (services.get("other.acme"), services.get("x")) == (OTHER, None)
    assert list(services) == [SUPPORT, OTHER]
