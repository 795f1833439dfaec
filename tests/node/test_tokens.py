"""Stream tokens: ours, for one carrier, unexpired, unchanged; and session ids that nobody can guess."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.node.tokens import MAX_TOKEN, Signer, StreamToken

SIGNER = Signer((b"new", b"old"))
TOKEN = StreamToken("a" * 32, "twilio", "support.acme", 3, 1_760_000_030.25)
NOW = 1_760_000_000.0


def test_a_token_reads_back():
    assert SIGNER.read(SIGNER.token(TOKEN), "twilio", now=NOW) == TOKEN


def test_a_token_is_a_pure_function_of_what_it_says():
    assert SIGNER.token(TOKEN) == Signer((b"new",)).token(TOKEN)


def test_a_token_fits_into_exotels_url():
    assert len(SIGNER.token(replace(TOKEN, service="s" * 100))) < 300


def test_an_older_secret_still_verifies():
    assert SIGNER.read(Signer((b"old",)).token(TOKEN), "twilio", now=NOW) == TOKEN


@pytest.mark.parametrize("carrier", ["telnyx", "", "Twilio"])
def test_a_token_is_for_its_own_carrier(carrier):
    assert SIGNER.read(SIGNER.token(TOKEN), carrier, now=NOW) is None


def test_a_token_expires():
    assert SIGNER.read(SIGNER.token(TOKEN), "twilio", now=TOKEN.expires + 0.001) is None


def test_another_gateways_token_is_not_ours():
    assert SIGNER.read(Signer((b"other",)).token(TOKEN), "twilio", now=NOW) is None


@given(st.integers(0, 200), st.characters())
def test_no_character_of_a_token_can_be_changed(at, character):
    text = SIGNER.token(TOKEN)
    at %= len(text)
    changed = text[:at] + character + text[at + 1 :]
    read = SIGNER.read(changed, "twilio", now=NOW)
    assert read is None or changed == text


@given(st.text(max_size=2 * MAX_TOKEN))
def test_no_text_raises(text):
    assert SIGNER.read(text, "twilio", now=NOW) is None


@given(*[st.text(max_size=5)] * 6)
def test_different_calls_have_different_sessions(a, b, c, d, e, f):
    if (a, b, c) != (d, e, f):
        try:
            assert SIGNER.session_id(a, b, c) != SIGNER.session_id(d, e, f)
        except UnicodeEncodeError:
            pytest.fail("no text may raise")


def test_a_session_belongs_to_its_call_under_any_secret():
    session = Signer((b"old",)).session_id("twilio", "AC1", "CA1")
    assert SIGNER.owns(session, "twilio", "AC1", "CA1")
    assert not SIGNER.owns(session, "twilio", "AC1", "CA2")


def test_a_signer_needs_a_secret():
    for keys in ((), (b"",)):
        with pytest.raises(ValueError, match="at least one key"):
            Signer(keys)


def test_a_placed_calls_mac_is_of_its_session_carrier_and_secret():
    mac = Signer((b"k1",)).call_mac("5e55", "twilio")
    assert len(mac) == 22
    assert Signer((b"k2", b"k1")).placed("5e55", "twilio", mac), "a secret that is rotated out still verifies"
    for session, carrier, shown in [
        ("5e56", "twilio", mac),
        ("5e55", "telnyx", mac),
        ("5e55", "twilio", ""),
        ("5e55", "twilio", mac + "é"),
        ("", "twilio", mac),
    ]:
        assert not Signer((b"k1",)).placed(session, carrier, shown)
    assert not Signer((b"k2",)).placed("5e55", "twilio", mac)
