from __future__ import annotations

import base64

import numpy as np
import pytest

from gateway.simulator import CallPlan, Credentials

# The derived vector's key pair: seed bytes 0..31.
SEED = bytes(range(32))
PUBLIC_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="


@pytest.mark.parametrize("seed", [SEED, SEED.hex()])
def test_the_public_key_belongs_to_the_seed(seed: str | bytes) -> None:
    assert Credentials(telnyx_seed=seed).telnyx_public_key == PUBLIC_KEY


@pytest.mark.parametrize("seed", ["00", b"short", "zz"])
def test_a_bad_seed_is_refused(seed: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|hexadecimal"):
        _ = Credentials(telnyx_seed=seed).telnyx_seed_bytes


def test_generated_credentials_have_the_carriers_shapes() -> None:
    credentials = Credentials.generate()
    assert credentials.twilio_account_sid[:2] == "AC"
    assert len(credentials.twilio_account_sid) == 34
    assert credentials.plivo_auth_id[:2] == "MA"
    assert len(credentials.plivo_auth_id) == 20
    assert len(base64.b64decode(credentials.telnyx_public_key)) == 32
    assert credentials != Credentials.generate()


def test_no_secret_shows_in_repr() -> None:
    credentials = Credentials.generate()
    shown = repr(credentials)
    for secret in (
        credentials.twilio_auth_token,
        str(credentials.telnyx_seed),
        credentials.plivo_auth_token,
        credentials.exotel_webhook_secret,
    ):
        assert secret not in shown


def test_credentials_come_from_the_environment() -> None:
    environ = {
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "t",
        "PLIVO_AUTH_ID": "MA1",
        "PLIVO_AUTH_TOKEN": "p",
        "EXOTEL_ACCOUNT_SID": "ex",
        "EXOTEL_WEBHOOK_SECRET": "s",
        "TELNYX_SIGNING_SEED": SEED.hex(),
    }
    credentials = Credentials.from_env(environ)
    assert (credentials.twilio_account_sid, credentials.twilio_auth_token) == ("AC1", "t")
    assert (credentials.plivo_auth_id, credentials.plivo_auth_token) == ("MA1", "p")
    assert (credentials.exotel_account_sid, credentials.exotel_webhook_secret) == ("ex", "s")
    assert credentials.telnyx_public_key == PUBLIC_KEY


def test_forged_credentials_keep_the_accounts_and_lose_the_secrets() -> None:
    credentials = Credentials.generate()
    forged = credentials.forged()
    assert forged.twilio_account_sid == credentials.twilio_account_sid
    assert forged.plivo_auth_id == credentials.plivo_auth_id
    assert forged.twilio_auth_token != credentials.twilio_auth_token
    assert forged.exotel_webhook_secret != credentials.exotel_webhook_secret


def test_the_caller_stays_as_long_as_he_talks_or_as_he_is_told() -> None:
    audio = np.zeros(12000, np.int16)
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio).stay == 1.5
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio, seconds=9).stay == 9
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio).public == "http://h"
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio, public_url="https://p").public == "https://p"
