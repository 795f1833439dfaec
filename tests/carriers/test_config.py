from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.carriers import CARRIERS, exotel, plivo, telnyx, twilio
from gateway.carriers.config import AccountConfig
from tests.kit.golden import VECTORS

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


@pytest.mark.parametrize(
    ("name", "key", "token"),
    [
        ("twilio", "account_sid", {"auth_token": "t"}),
        ("telnyx", "connection_id", {}),
        ("plivo", "auth_id", {"auth_token": "t"}),
        ("exotel", "account_sid", {}),
    ],
)
@pytest.mark.parametrize("text", ["..", ".", "a/b", "a?b", "a#", "%2e%2e", "a b", "a\nb", "x" * 65])
def test_what_would_lead_a_rest_url_elsewhere_is_no_id(name: str, key: str, token: dict[str, str], text: str) -> None:
    with pytest.raises(ValidationError, match="is no id as the carrier shows it"):
        CARRIERS[name].config.model_validate(
            {key: text, "auth_token": "t"} if name in ("twilio", "plivo") else {key: text}
        )


@pytest.mark.parametrize("text", ["AC1", " AC1\n", "AC_1-x"])
def test_an_id_is_taken_without_the_blanks_of_a_copy(text: str) -> None:
    config = CARRIERS["twilio"].config.model_validate({"account_sid": text, "auth_token": "t"})
    assert config.accounts[0].id == text.strip()


@pytest.mark.parametrize(
    ("name", "section", "missing"),
    [
        ("twilio", {"account_sid": "AC1", "auth_token": "t"}, ""),
        ("twilio", {}, "account_sid"),
        ("telnyx", {"public_key": PUBLIC_KEY}, "api_key"),
        ("telnyx", {"api_key": "k"}, "connection_id"),
        ("telnyx", {"api_key": "k", "connection_id": "77"}, ""),
        ("plivo", {"auth_id": "MA1", "auth_token": "t"}, ""),
        ("exotel", {"webhook_secret": "s"}, "account_sid"),
        ("exotel", {"account_sid": "e", "api_key": "k"}, "api_token"),
        ("exotel", {"account_sid": "e", "api_key": "k", "api_token": "t"}, ""),
    ],
)
def test_key_that_is_missing_to_place_calls(name: str, section: dict[str, Any], missing: str) -> None:
    assert CARRIERS[name].config.model_validate(section).lacks_to_dial() == missing


def test_one_account_that_can_place_calls_is_enough() -> None:
    accounts = [{"public_key": PUBLIC_KEY}, {"connection_id": "77", "api_key": "k", "public_key": PUBLIC_KEY}]
    config = telnyx.Config.model_validate({"accounts": accounts})
    assert config.lacks_to_dial() == ""
    carrier = telnyx.TelnyxCarrier(config, public_url="https://voice.example.com")
    assert carrier.default_account() == "77"
