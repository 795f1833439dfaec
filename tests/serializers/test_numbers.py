"""E.164 out of what the carriers write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.numbers import MAX_LENGTH, e164, e164_of_digits


@pytest.mark.parametrize(
    ("raw", "region", "number"),
    [
        ("+15550100000", None, "+15550100000"),
        ("+155501000010", None, "+155501000010"),  # fictional, longer than the American plan allows
        ("+1 (555) 010-0000", None, "+15550100000"),
        ("+44 (0)20 7946 0000", None, "+442079460000"),
        (" +15550100000\n", None, "+15550100000"),
        ("tel:+15550100000", None, "+15550100000"),
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


@pytest.mark.parametrize("raw", ["2025550143", "4045550143", "918035735900", "15550100", "(202) 555-0143"])
def test_digits_alone_are_of_no_country(raw):
    # +2025550143 is a number of Cairo's, +4045550143 one of Bucharest's.
    assert e164(raw) == raw


def test_the_accounts_region_reads_them():
    assert e164("2025550143", "US") == e164("(202) 555-0143", "US") == "+12025550143"


@pytest.mark.parametrize(
    ("raw", "other", "region", "number"),
    [
        ("918035735900", "", None, "+918035735900"),  # Plivo's StartApp; its Ring has the plus
        ("+918035735900", "", None, "+918035735900"),
        ("155501000070", "", None, "+155501000070"),
        ("15550100", "", None, "+15550100"),
        ("4512345678", "4587654321", None, "+4512345678"),  # Denmark's have ten digits with their country code
        ("6591234567", "6561234567", None, "+6591234567"),  # so have Singapore's
        ("2025550143", "12025550100", None, "2025550143"),  # and North America's without it
        ("2025550143", "+12025550100", None, "2025550143"),
        ("2025550143", "+12025550100", "US", "+12025550143"),
        ("12025550143", "+12025550100", None, "+12025550143"),
        ("09494865411", "", None, "09494865411"),
        ("1909", "", None, "1909"),
        ("sip:alice@example.com", "", None, "sip:alice@example.com"),
        ("", "", None, ""),
    ],
)
def test_digits_where_the_carrier_leaves_out_the_plus(raw, other, region, number):
    assert e164_of_digits(raw, other, region) == number


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
