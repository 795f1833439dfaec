"""One account at a carrier.

What the simulated carrier signs with, and what the gateway's settings must say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its carrier holds it; a subclass names the fields.

    A field that `repr` leaves out is a secret. An empty secret leaves the carrier's requests unsigned.
    """

    env: ClassVar[Mapping[str, str]] = {}
    """The environment variable that fills each field."""

    @property
    def id(self) -> str:
        """The account as it stands in webhooks and in `start`: the first field."""
        return str(getattr(self, fields(self)[0].name))

    @classmethod
    def generate(cls) -> Self:
        """Make an account with random secrets, of the shapes that the carrier gives out."""
        return cls()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Take the account that the environment names."""
        return cls(**{name: environ[variable] for name, variable in cls.env.items() if environ.get(variable)})

    def forged(self) -> Self:
        """Make the same account with secrets that are not its own."""
        return replace(self.generate(), **{one.name: getattr(self, one.name) for one in fields(self) if one.repr})

    def settings(self) -> dict[str, str]:
        """Return what `[carriers.<name>]` in the gateway's settings says of this account."""
        return {one.name: str(value) for one in fields(self) if (value := getattr(self, one.name))}
