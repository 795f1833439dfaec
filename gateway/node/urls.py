"""URLs as they may be logged: no token, key or value, and for a wrong path what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from gateway.carriers import CARRIERS

WEBHOOKS = ("voice", "resume", "status", "stream")
NOT_FOUND = "Nothing is served at this path. Carriers call /webhooks/<carrier>/voice and open /ws/<carrier>.\n"
"""The body of a 404: what a person with a wrong URL needs, and nothing about this gateway."""
NO_UPGRADE = (
    "This path is a WebSocket, and the request that arrived asks for none. "
    "A proxy in front must pass the headers Upgrade and Connection on.\n"
)
"""The body of a 426."""
SIGNED_URL_HINT = (
    "the URL must be the one in the carrier's console, public_url at its beginning, and the key its account's"
)
_MOST_NAMES = 30
_LONGEST = 24
"""Characters of a path's segment that may be a misspelt word."""


def without_prefix(path: str, prefix: str) -> str:
    """Take the path of `public_url` off a request's path; a proxy may have done so already."""
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else path


def loggable_webhook(public_url: str, path: str, query: str) -> str:
    """Write a webhook's URL as it was checked: its path without a key, its query's names without their values."""
    known, rest = path.split("/")[:4], path.split("/")[4:]
    shown = "/".join([*known, *("{key}" if segment else "" for segment in rest)])
    return f"{public_url}{shown}{_names_in(query)}"


def loggable_stream(public_ws: str, path: str, query: str) -> str:
    """Write a stream's URL as it was checked, its path as that of the route: the rest is tokens and keys."""
    match path.strip("/").split("/")[1:]:
        case [_, "s", _, _]:
            route = "/ws/{carrier}/s/{service}/{key}"
        case [_, "s", _]:
            route = "/ws/{carrier}/s/{service}"
        case [_, _]:
            route = "/ws/{carrier}/{token}"
        case [_]:
            route = "/ws/{carrier}"
        case _:
            route = "/ws"
    slash = "/" if path.endswith("/") else ""
    return f"{public_ws}{route}{slash}{_names_in(query)}"


def _names_in(query: str) -> str:
    # What has no "=" is a name or a value: it is not shown.
    names = [name if equals else "…" for name, equals, _ in (pair.partition("=") for pair in query.split("&") if pair)]
    return f"?{'&'.join(names[:_MOST_NAMES])}" if names else ""


def meant(path: str, extra: Iterable[str] = ()) -> str:
    """Return the path that a wrong one may have meant, "" if it resembles none.

    extra: further words of paths, those of `public_url`. A segment that resembles no word is not shown: it may be a
    token, or a key.
    """
    words = {"webhooks", "ws", "v1", "workers", "connect", *WEBHOOKS, *CARRIERS, *extra}
    corrected, changed = [], False
    for segment in path.strip("/").split("/")[:6]:
        close = [segment] if segment in words else []
        if not close and len(segment) <= _LONGEST:
            close = get_close_matches(segment.lower(), words, n=1, cutoff=0.7)
            changed = changed or bool(close)
        corrected.append(close[0] if close else "…")
    return "/" + "/".join(corrected) if changed else ""


def unknown_carrier(name: str, path: str) -> tuple[str, str]:
    """Return why a path of this carrier is not served, and what to do about it.

    name: as the path has it, any stranger's word.
    """
    if name not in CARRIERS:
        likely = meant(path)
        there_are = f"there is no such carrier, only {', '.join(CARRIERS)}"
        return "unknown_carrier", _with_guess(there_are, likely)
    return "carrier_closed", f"{name} has no credentials here: set [carriers.{name}]"


def wrong_path_hint(path: str, extra: Iterable[str] = ()) -> str:
    """Say what to do about a request for a path that is not served."""
    hint = "nothing is served at this path: carriers call /webhooks/<carrier>/voice and open /ws/<carrier>"
    likely = meant(path, extra)
    return _with_guess(hint, likely)


def _with_guess(hint: str, likely: str) -> str:
    return f"{hint}; did you mean {likely}?" if likely else hint
