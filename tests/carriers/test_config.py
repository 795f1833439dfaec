from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.carriers import exotel, plivo, telnyx, twilio
from gateway.carriers.config import AccountConfig
from tests.carriers.webhooks import VECTORS

PUBLIC_KEY = VECTORS["telnyx"]["public_key"]


def test_short_form_is_one_account() -> None:
    short = twilio.Config.model_validate({"account_sid": "AC1", "auth_token": "t", "stream_key": "s"})
    long = twilio.Config.model_validate(
        {"accounts": [{"account_sid": "AC1", "auth_token": ["t"]}], "stream_key": ["s"]}
    )
    assert short == long
    assert short.lacks() == ""


def test_short_form_stands_before_listed_accounts() -> None:
    config = plivo.Config.model_validate(
        {"auth_id": "MA1", "auth_token": "t", "accounts": [{"auth_id": "MA2", "auth_token": "u"}]}
    )
    assert [account.id for account in config.accounts] == ["MA1", "MA2"]
    first, second = config.accounts
    assert config.account("MA2") is second
    assert config.account("") is first
    assert config.account("MA3") is None


@pytest.mark.parametrize(
    ("config", "given", "named"),
    [
        (twilio.Config, {"account_sid": "AC1"}, "auth_token is missing beside account_sid"),
        (twilio.Config, {"auth_token": "hush"}, "account_sid is missing beside auth_token"),
        (twilio.Config, {"account_sid": "", "auth_token": "hush"}, "account_sid"),
        (plivo.Config, {"auth_id": "MA1", "auth_token": "hush", "tokn": "hush"}, "tokn"),
        (plivo.Config, {"auth_id": "MA1", "auth_token": "hush", "accounts": "hush"}, "accounts"),
        (twilio.Config, {"accounts": [{"account_sid": "AC1", "token": "hush"}]}, "accounts.0.token"),
        (telnyx.Config, {"public_key": "hush"}, "32 bytes in base64"),
        (telnyx.Config, {"public_key": "aHVzaA=="}, "32 bytes in base64"),
        (telnyx.Config, {"public_key": PUBLIC_KEY, "verify": "hush"}, "verify"),
        (exotel.Config, {"region": "India"}, "region"),
        (
            twilio.Config,
            {"account_sid": "AC1", "auth_token": "hush", "accounts": [{"account_sid": "AC1", "auth_token": "hush"}]},
            "AC1 is there twice",
        ),
        (twilio.Config, "hush", "Config"),
    ],
)
def test_wrong_settings_are_named_and_not_shown(config: Any, given: Any, named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config.model_validate(given)
    assert named in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "given", "missing"),
    [
        (twilio.Config, {}, "account_sid"),
        (plivo.Config, {}, "auth_id"),
        (telnyx.Config, {}, "public_key"),
        (telnyx.Config, {"api_key": "k"}, "public_key"),
        (telnyx.Config, {"api_key": "k", "public_key": PUBLIC_KEY}, ""),
        (telnyx.Config, {"api_key": "k", "public_key": PUBLIC_KEY, "verify": "key"}, "webhook_secret"),
        (telnyx.Config, {"webhook_secret": "s", "verify": "key"}, ""),
        (exotel.Config, {}, "webhook_secret"),
        (exotel.Config, {"account_sid": "a", "api_key": "k", "api_token": "t"}, "webhook_secret"),
        (exotel.Config, {"account_sid": "a", "webhook_secret": "s"}, ""),
    ],
)
def test_lacks_names_what_verification_needs(config: Any, given: dict[str, Any], missing: str) -> None:
    assert config.model_validate(given).lacks() == missing


def test_accounts_are_called_by_the_carriers_id() -> None:
    assert telnyx.Account().id == "default"
    assert telnyx.Account(connection_id="17").id == "17"
    assert exotel.Account().id == "default"
    assert exotel.Account(account_sid="acme1").id == "acme1"
    with pytest.raises(NotImplementedError):
        AccountConfig().id  # noqa: B018 - the property is what is tested


def test_settings_show_no_secret() -> None:
    config = exotel.Config.model_validate(
        {"api_key": "hush", "api_token": "hush", "webhook_secret": ["hush", "hush2"], "stream_key": "hush"}
    )
    assert "hush" not in repr(config) + str(config.model_dump())
