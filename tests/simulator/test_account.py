"""The accounts of all carriers: their shapes, their secrets, their environment."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.carriers import CARRIERS as PLUGINS
from gateway.simulator import CARRIERS, Credentials
from gateway.simulator.account import Account
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.telnyx import TelnyxAccount
from gateway.simulator.twilio import TwilioAccount

# The derived vector's key pair: seed bytes 0..31.
SEED = bytes(range(32))
PUBLIC_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="


@pytest.mark.parametrize("seed", [SEED, SEED.hex()])
def test_the_public_key_belongs_to_the_seed(seed: str | bytes) -> None:
    assert TelnyxAccount(seed).public_key == PUBLIC_KEY


@pytest.mark.parametrize("seed", ["00", b"short", "zz"])
def test_a_bad_seed_is_refused(seed: str | bytes) -> None:
    with pytest.raises(ValueError, match="TELNYX_SIGNING_SEED: the signing seed is 32 bytes, or 64 hexadecimal digits"):
        _ = TelnyxAccount(seed).seed_bytes


def test_generated_accounts_have_the_carriers_shapes() -> None:
    twilio, plivo, telnyx = TwilioAccount.generate(), PlivoAccount.generate(), TelnyxAccount.generate()
    assert (twilio.account_sid[:2], len(twilio.account_sid)) == ("AC", 34)
    assert (plivo.auth_id[:2], len(plivo.auth_id)) == ("MA", 20)
    assert len(base64.b64decode(telnyx.public_key)) == 32
    assert Credentials.generate() != Credentials.generate()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_settings_of_an_account_are_the_gateways(carrier: str) -> None:
    account = Credentials.generate()[carrier]
    config = PLUGINS[carrier].config.model_validate(account.settings())
    assert config.lacks() == ""
    assert json.dumps(account.settings())


def secrets_of(account: Account) -> list[str]:
    return [value for value in map(str, vars_of(account).values()) if value not in repr(account)]


def vars_of(account: Account) -> dict[str, object]:
    return {name: getattr(account, name) for name in account.__slots__}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_secret_shows_in_repr(carrier: str) -> None:
    assert len(secrets_of(Credentials.generate()[carrier])) == 1


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_forged_account_keeps_its_name_and_loses_its_secret(carrier: str) -> None:
    account = Credentials.generate()[carrier]
    forged = account.forged()
    assert repr(forged) == repr(account)
    assert set(secrets_of(forged)).isdisjoint(secrets_of(account))


def test_accounts_come_from_the_environment() -> None:
    environ = {
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "t",
        "PLIVO_AUTH_ID": "MA1",
        "PLIVO_AUTH_TOKEN": "p",
        "EXOTEL_ACCOUNT_SID": "ex",
        "EXOTEL_WEBHOOK_SECRET": "s",
        "TELNYX_SIGNING_SEED": SEED.hex(),
    }
    assert Credentials.from_env(environ) == {
        "twilio": TwilioAccount("AC1", "t"),
        "telnyx": TelnyxAccount(SEED.hex()),
        "plivo": PlivoAccount("MA1", "p"),
        "exotel": ExotelAccount("ex", "s"),
    }
    assert Credentials.from_env({})["twilio"] == TwilioAccount()
