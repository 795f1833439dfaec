"""Keys to the API: found whole or not at all, and what a key of the settings may do."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from gateway.api.keys import SCOPES, ApiKey, ApiKeys
from gateway.settings import Settings, load

READER = ApiKey("crm", frozenset({"calls:read"}), (SecretStr("new-key"), SecretStr("old-key")))
ALL = ApiKey("key-2", frozenset(SCOPES), (SecretStr("the key of all scopes"),))
KEYS = ApiKeys([READER, ALL])


@pytest.mark.parametrize("header", ["Bearer new-key", "bearer old-key", "BEARER  new-key "])
def test_a_key_is_found_by_each_of_its_secrets(header):
    assert KEYS.find(header) is READER


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", "new-key", "Basic new-key", "Bearer new-ke", "Bearer new-key2", "Bearer NEW-KEY"),
        *("Bearer \udcff", "Bearer ключ", "Bearer " + "x" * 10_000, "Bearer new-key,old-key", "new-key Bearer"),
    ],
)
def test_what_is_no_key(header):
    assert KEYS.find(header) is None


def test_without_keys_nothing_opens():
    assert ApiKeys(()).find("Bearer ") is None
    assert ApiKeys(()).find("Bearer x") is None


def test_no_secret_shows_in_a_repr():
    assert "new-key" not in repr(READER)


def keys(value) -> list[tuple[str, frozenset[str]]]:
    return [(key.name, key.scopes) for key in Settings.model_validate({"api": {"keys": value}}).api.api_keys()]


def test_a_string_has_all_scopes_and_is_called_by_its_place():
    tables = [{"key": ["a", "b"], "name": "crm", "scopes": ["calls:read"]}, {"key": "c", "scopes": ["start", "admin"]}]
    assert keys(["x", *tables]) == [
        ("key-1", frozenset(SCOPES)),
        ("crm", frozenset({"calls:read"})),
        ("key-3", frozenset({"start", "admin"})),
    ]


def test_one_key_needs_no_list():
    assert keys("x") == keys(["x"])


def test_the_environment_gives_keys():
    [key] = load(environ={"GATEWAY_API__KEYS": "from-env"}).api.api_keys()
    assert ApiKeys([key]).find("Bearer from-env") is key
