from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from gateway.carriers.secrets import Secrets, accepts, accounts_with_secret, same, secret_of


class Model(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    token: Secrets


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("one", ["one"]),
        (["new", "old"], ["new", "old"]),
        (("new", "old"), ["new", "old"]),
        (SecretStr("one"), ["one"]),
        (" from a file\n", ["from a file"]),
    ],
)
def test_secret_is_one_or_a_list(given: object, values: list[str]) -> None:
    model = Model.model_validate({"token": given})
    assert [one.get_secret_value() for one in model.token] == values


def test_secret_shows_nowhere() -> None:
    model = Model.model_validate({"token": ["hush-1", "hush-2"]})
    assert "hush" not in repr(model) + str(model) + str(model.model_dump()) + model.model_dump_json()


@pytest.mark.parametrize("given", ["", "  ", [], ["hush", ""], 12345, ["hush", 5], {"hush": 1}, None])
def test_secret_of_the_wrong_kind_is_refused_unseen(given: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"token": given})
    assert "hush" not in str(caught.value)
    assert "12345" not in str(caught.value)
    assert "token" in str(caught.value)


def test_accepts_any_of_the_secrets() -> None:
    secrets = (SecretStr("new"), SecretStr("old"))
    assert accepts(secrets, "new")
    assert accepts(secrets, "old")
    assert not accepts(secrets, "ne")
    assert not accepts(secrets, "")
    assert not accepts((), "new")
    assert not accepts((SecretStr(""),), "")


def test_same_takes_any_text() -> None:
    assert same("é\ud800", "é\ud800")
    assert not same("é", "e")


class Account(BaseModel):
    id: str
    webhook_secret: Secrets = ()


ACCOUNTS = [
    Account(id="bare"),
    Account(id="one", webhook_secret=["new", "old"]),
    Account(id="two", webhook_secret=["of two", "old"]),
]


def test_holders_are_all_whose_secret_is_shown() -> None:
    def named(*offered: str) -> list[str]:
        return [account.id for account in accounts_with_secret(ACCOUNTS, offered)]

    assert named("", "new") == ["one"]
    assert named("old", "") == ["one", "two"]
    assert named("new", "of two") == ["one", "two"]
    assert named("", "") == named("bare") == named() == []


def test_an_account_is_given_the_first_of_its_own_secrets() -> None:
    assert [secret_of(ACCOUNTS, account) for account in ("one", "two")] == ["new", "of two"]
    assert [secret_of(ACCOUNTS, account) for account in ("", "bare", "gone")] == ["new"] * 3
    assert secret_of(ACCOUNTS[:1], "bare") == ""
