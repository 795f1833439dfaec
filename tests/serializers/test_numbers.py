"""E.164 out of what the carriers write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.numbers import MAX_LENGTH, e164


@pytest.mark.parametrize(
    ("raw", "region", "number"),
    [
        ("+15550100000", None, "+15550100000"),
        ("+155501000010", None, "+155501000010"),  # fictional, longer than the American plan allows
        ("+1 (555) 010-0000", None, "+15550100000"),
        ("+44 (0)20 7946 0000", None, "+442079460000"),
        (" +15550100000\n", None, "+15550100000"),
        ("tel:+15550100000", None, "+15550100000"),
        ("155501000070", None, "+155501000070"),  # Plivo
        ("918035735900", None, "+918035735900"),
        ("00442079460000", None, "+442079460000"),
        ("0044 20 7946 0000", "IN", "+442079460000"),
        ("09494865411", "IN", "+919494865411"),  # Exotel
        ("05550100009", "IN", "+915550100009"),  # fictional: possible, not valid
        ("9494865411", "IN", "+919494865411"),
        ("919494865411", "IN", "+919494865411"),
        ("915550100009", "in", "+915550100009"),
        ("14155550100", "IN", "+14155550100"),
        ("094948-65411", "IN", "+919494865411"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("4155550100", "US", "+14155550100"),
    ],
)
def test_telephone_numbers_become_e164(raw, region, number):
    assert e164(raw, region) == number


@pytest.mark.parametrize("region", [None, "IN", "US", "ZZ", ""])
@pytest.mark.parametrize(
    "raw",
    [
        "",
        "anonymous",
        "Restricted",
        "Unknown",
        "sip:alice@example.com",
        "sip:15550100000@phone.example.com",
        "client:alice",
        "XXXXX",
        "+",
        "++15550100000",
        "+0155501000",
        "+123456",
        "+1234567890123456",
        "0",
        "00",
        "000000000000",
        "0015",
        "1909",
        "56767",
        "112",
        "1-800-FLOWERS",
        "+1555010000;ext=5",
        "٠٩٤٩٤٨٦٥٤١١",
        "12345678901234567890",
        "   ",
    ],
)
def test_what_is_no_telephone_number_passes_as_it_came(raw, region):
    assert e164(raw, region) == raw


def test_none_is_empty():
    assert e164(None) == ""


def test_a_national_number_without_a_region_passes():
    assert e164("09494865411") == "09494865411"


def test_an_unknown_region_reads_international_numbers_only():
    assert e164("919494865411", "ZZ") == "+919494865411"
    assert e164("09494865411", "ZZ") == "09494865411"


def test_length_is_bounded():
    assert e164("+" + "1" * 1_000_000) == "+" + "1" * (MAX_LENGTH - 1)


REGIONS = st.sampled_from([None, "IN", "US", "GB", "", "XX"])


@given(st.one_of(st.text(), st.from_regex(r"\+?[0-9() .-]{0,45}", fullmatch=True)), REGIONS)
def test_total_and_stable(raw, region):
    number = e164(raw, region)
    assert len(number) <= MAX_LENGTH
    assert number == raw or (number[0] == "+" and number[1:].isdigit() and 8 <= len(number) <= 16)
    assert e164(number, region) == number
