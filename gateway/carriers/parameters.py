"""The query parameters of our webhook URLs.

How ours, the author's and the carrier's are kept apart.

A webhook's query may hold three kinds of names: ours, those that the flow's author wrote into the URL, and, where the
carrier asks by GET, the carrier's own fields. Ours are `serviceHost` and `key`, which users write themselves, and
what begins with one reserved prefix, which only we write. Everything else that is no field of the carrier's is the
author's, whatever it is called, and becomes the call's `body`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from serializers.call_data import RESERVED_PREFIX

SERVICE_HOST = "serviceHost"
KEY = "key"
OUR_PARAMETERS = ("from_number", "to_number")
"""Parameters of the handshake, by the names of the facts, that our answer adds for bots that read it.

On a static stream they are its author's."""
NUMBER_HEADERS = {"from_number": "from", "to_number": "to"}
"""The same where a carrier takes names of letters and digits only."""

_SESSION = f"{RESERVED_PREFIX}session"
_MAC = f"{RESERVED_PREFIX}mac"
_ATTEMPT = f"{RESERVED_PREFIX}attempt"
_AFTER = f"{RESERVED_PREFIX}after"
_OPENED = f"{RESERVED_PREFIX}opened"
_ROUNDS = f"{RESERVED_PREFIX}rounds"


@dataclass(frozen=True, slots=True)
class OwnParameters:
    """What our own names in a webhook's query say.

    service_host: the service that the author asks for. session: the id, for logs only unless `mac` proves that the URL
    is ours: not every carrier signs its URLs. mac: of a call that we placed, see `Signer.call_mac`. attempt: the stream
    that the carrier comes from, also where the registry has forgotten it; 0 if unknown. after: what the call comes back
    from: "dial", "digits", "forward" or "". opened: how many streams had started when the URL was made. rounds: how
    often the carrier had come back by then without having opened another.
    """

    service_host: str = ""
    session: str = ""
    mac: str = ""
    attempt: int = 0
    after: str = ""
    opened: int = 0
    rounds: int = 0

    @classmethod
    def read(cls, named: Mapping[str, str]) -> OwnParameters:
        """From those of our names that a query holds."""
        return cls(
            service_host=named.get(SERVICE_HOST, ""),
            session=named.get(_SESSION, ""),
            mac=named.get(_MAC, ""),
            attempt=_number(named.get(_ATTEMPT, "")),
            after=named.get(_AFTER, ""),
            opened=_number(named.get(_OPENED, "")),
            rounds=_number(named.get(_ROUNDS, "")),
        )

    def query(self) -> str:
        """As it is written into a URL, "" if it says nothing."""
        said = {
            SERVICE_HOST: self.service_host,
            _SESSION: self.session,
            _MAC: self.mac,
            _ATTEMPT: self.attempt,
            _AFTER: self.after,
            _OPENED: self.opened,
            _ROUNDS: self.rounds,
        }
        return urlencode({name: value for name, value in said.items() if value})


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def is_own(name: str) -> bool:
    """Whether a query parameter of this name is the gateway's."""
    return name in (SERVICE_HOST, KEY) or name.startswith(RESERVED_PREFIX)


def with_query(url: str, name: str, value: str) -> str:
    """`url` with one more query parameter."""
    return f"{url}{'&' if '?' in url else '?'}{quote(name, safe='')}={quote(value, safe='')}"


def own_names(names: Iterable[str]) -> list[str]:
    """Choose those of the names that are the gateway's.

    The key is left out: it is a secret, and says nothing.
    """
    return [name for name in names if is_own(name) and name != KEY]
