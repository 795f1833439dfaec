"""Secrets that may be rotated, and how they are compared.

Without telling how far a guess was right.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError


def listed(value: Any) -> tuple[Any, ...]:
    """One value or a list of them, as a tuple of strings without blanks around them.

    Raises PydanticCustomError, which never shows the value: it may be a secret.
    """
    values = (value,) if isinstance(value, str | SecretStr) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str | SecretStr) for one in values):
        raise PydanticCustomError("secret_type", "must be a string or a list of strings")
    texts = tuple(one.get_secret_value() if isinstance(one, SecretStr) else one for one in values)
    stripped = tuple(text.strip() for text in texts)
    if not stripped or not all(stripped):
        raise PydanticCustomError("secret_empty", "must not be empty")
    if not all(text.isprintable() for text in stripped):
        raise PydanticCustomError("secret_control", "has a line break or another control character in it")
    return stripped


def _headers_only(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not all(re.fullmatch("[!-~]{1,256}", secret.get_secret_value()) for secret in secrets):
        raise PydanticCustomError("header_secret", "must be ASCII without blanks, 256 characters at most")
    return secrets


Secrets: TypeAlias = Annotated[tuple[SecretStr, ...], BeforeValidator(listed)]
"""A secret in a settings model: a string or, while it is being rotated, a list. The first is used to sign and
to log in, any is accepted. The model should set `hide_input_in_errors`; print its errors with
`include_input=False`.
"""


BearerKeys: TypeAlias = Annotated[Secrets, AfterValidator(_headers_only)]
"""The same for keys that we send in a header: what cannot stand in one is refused before it is needed."""


def same(one: str, other: str) -> bool:
    """Compare in a time that does not depend on the content.

    Any text will do, lone surrogates included (`hmac.compare_digest` takes non-ASCII only as bytes).
    """
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def accepts(secrets: Iterable[SecretStr], given: str) -> bool:
    """Say whether `given` is one of `secrets`.

    Looks at all of them; an empty `given` never is.
    """
    found = False
    for secret in secrets:
        found |= same(secret.get_secret_value(), given)
    return found and given != ""


class Holder(Protocol):
    """An account whose webhooks are told from forgeries by a secret in their URL."""

    @property
    def id(self) -> str: ...

    @property
    def webhook_secret(self) -> Secrets: ...


HolderT = TypeVar("HolderT", bound=Holder)


def accounts_with_secret(accounts: Iterable[HolderT], offered: Sequence[str]) -> list[HolderT]:
    """Find the accounts that have one of these as `webhook_secret`.

    Looks at all of them.
    """
    # A list, not a generator: `any` would stop at the first that is right.
    return [one for one in accounts if any([accepts(one.webhook_secret, key) for key in offered])]  # noqa: C419


def secret_of(accounts: Iterable[Holder], account: str) -> str:
    """Choose the `webhook_secret` to put into an account's URLs.

    That of the account of that id; of the first that has one, if it has none or is not there. "" if none has one.
    """
    having = [one for one in accounts if one.webhook_secret]
    own = next((one for one in having if one.id == account), having[0] if having else None)
    return own.webhook_secret[0].get_secret_value() if own is not None else ""
