"""What the settings of all carriers have in common.

Accounts, and the short form of one account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.carriers.secrets import Secrets

STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def _is_id(text: str) -> str:
    if text and not re.fullmatch(r"(?!\.{1,2}$)[^/\\?#%\s]{1,64}", text):
        raise PydanticCustomError("account_id", "is no id as the carrier shows it: letters and digits")
    return text


AccountId: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_is_id)]
"""What an account or an application is called: it stands in URLs, where ".." would lead elsewhere. May be empty."""


class AccountConfig(BaseModel):
    """One account at a carrier."""

    model_config = STRICT

    api_url: str = ""
    """Base URL of the REST API, where this account's is not the carrier's (Exotel: Mumbai or Singapore)."""

    @property
    def id(self) -> str:
        """What the account is called.

        As in the carrier's webhooks, where they name it. Never empty.
        """
        raise NotImplementedError

    def lacks(self) -> str:
        """The key without which this account's webhooks cannot be told from forgeries, or ""."""
        return ""

    def lacks_to_dial(self) -> str:
        """The key without which no call can be placed with this account, or ""."""
        return ""


AccountT = TypeVar("AccountT", bound=AccountConfig)


class CarrierConfig(BaseModel, Generic[AccountT]):
    """`[carriers.<name>]`.

    An account's keys may stand directly in the section: the short form of one of `accounts`.
    """

    model_config = STRICT

    accounts: tuple[AccountT, ...] = ()
    stream_key: Secrets = ()
    """For static streams: flows that connect without having asked us."""
    api_url: str = ""
    """Base URL of the carrier's REST API, for regions and tests; "" is the carrier's own."""
    region: str = Field(default="", pattern="^([A-Z]{2})?$")
    """ISO 3166 code of the country whose national numbers the carrier may write; "" where it writes none."""

    @model_validator(mode="before")
    @classmethod
    def _fold_short_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        account: type[AccountConfig] = get_args(cls.model_fields["accounts"].annotation)[0]
        short = {key: data[key] for key in account.model_fields if key in data and key not in cls.model_fields}
        if not short:
            return data
        for key, field in account.model_fields.items():
            if field.is_required() and key not in short:
                raise PydanticCustomError(
                    "account_incomplete", "{key} is missing beside {there}", {"key": key, "there": min(short)}
                )
        listed = data.get("accounts", ())
        if not isinstance(listed, list | tuple):
            return data
        return {k: v for k, v in data.items() if k not in short} | {"accounts": [short, *listed]}

    @model_validator(mode="after")
    def _accounts_differ(self) -> CarrierConfig[AccountT]:
        ids = [account.id for account in self.accounts]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise PydanticCustomError("account_twice", "account {id} is there twice", {"id": twice})
        return self

    def account(self, account_id: str) -> AccountT | None:
        """The account of that id (`Verified.account`); "" is the first one."""
        for account in self.accounts:
            if account_id in ("", account.id):
                return account
        return None

    def lacks(self) -> str:
        """The key that is missing to verify webhooks, for the start-up check; "" if none is."""
        if not self.accounts:
            return self._first_key()
        return next((key for key in (account.lacks() for account in self.accounts) if key), "")

    def lacks_to_dial(self) -> str:
        """The key that is missing to place calls; "" if one account has all."""
        missing = [account.lacks_to_dial() for account in self.accounts]
        return "" if "" in missing else next(iter(missing), self._first_key())

    @classmethod
    def _first_key(cls) -> str:
        """The key to name when there is no account at all."""
        account: type[AccountConfig] = get_args(cls.model_fields["accounts"].annotation)[0]
        return next(key for key in account.model_fields if key != "api_url")
