"""Credentials for a relayed bot of Pipecat's: it hangs up by the carrier's REST API.

Bots find them in the environment, by the names that their users have. A bot that speaks pcm needs none, and gets none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Those of one account. variables: by their names in the environment."""

    carrier: str
    account: str
    variables: Mapping[str, str] = field(repr=False)


def variables_of(accounts: Iterable[Credentials], carrier: str = "", account: str = "") -> dict[str, str]:
    """Return the environment's variables: of each carrier its first account's, but of this carrier this account's."""
    found: dict[str, str] = {}
    for each in accounts:
        if (each.carrier, each.account) == (carrier, account):
            found.update(each.variables)
        else:
            found = {**each.variables, **found}
    return found
