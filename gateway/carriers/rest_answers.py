"""How answers of REST APIs are read: what carriers have in common. Nothing here raises, whatever a body holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, get_args

import orjson

from gateway.carriers.orders import CallState, CarrierRefusal, Outcome, RefusalKind

MAX_BODY = 64 * 1024
"""Bytes of an answer that are read. Real ones have 0.2 to 3 KB."""
_MAX_TEXT = 300
_MAX_CODE = 40
_MAX_WAIT = 86400.0
_BY_STATUS: Mapping[int, RefusalKind] = {
    401: "auth",
    402: "refused",  # no balance
    403: "refused",
    404: "auth",  # the account or the application is not there
    408: "unavailable",
    425: "rate",
    429: "rate",
    # A proxy, or a load balancer, had passed the request on and got no answer, or a broken one (RFC 9110, sections
    # 15.6.3 and 15.6.5; 520 and 524 are Cloudflare's words for it): what is behind it may have done all of it.
    502: "unanswered",
    504: "unanswered",
    520: "unanswered",
    524: "unanswered",
}
_NOT_DONE = frozenset({425, 429, 503})
"""What says with Retry-After that it was not done, and may be asked again (RFC 9110, section 10.2.3; RFC 8470; RFC
6585). A 500 says nothing of the kind: it may come after the call was placed."""
_OUTCOMES: Mapping[str, Outcome] = {word: word for word in get_args(Outcome)}


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; {} for what is none."""
    if len(body) > MAX_BODY:
        return {}
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}


def member(tree: Any, *path: str | int) -> Any:
    """Follow names and indices into a JSON tree; None where they lead nowhere."""
    for step in path:
        match tree:
            case dict():
                tree = tree.get(step)
            case list() if isinstance(step, int) and step < len(tree):
                tree = tree[step]
            case _:
                return None
    return tree


def text_at(tree: Any, *path: str | int) -> str:
    """Read the text or the number there; "" for anything else."""
    value = member(tree, *path)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def is_accepted(status: int) -> bool:
    """Whether the status says that it was done."""
    return 200 <= status < 300


def refusal(
    status: int,
    headers: Mapping[str, str],
    *,
    code: str,
    text: str,
    kinds: Mapping[str, RefusalKind],
) -> CarrierRefusal:
    """Make the refusal of an answer that is none of 2xx.

    headers: names in lower case. code, text: the carrier's, "" where it gives none. kinds: what some of its codes mean
    that their status does not say.
    """
    kind = kinds.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = "unavailable" if status >= 500 else "invalid" if status >= 400 else "refused"
    if 300 <= status < 400:
        text = text or "the REST API answers with a redirect: is api_url right?"
    return CarrierRefusal(
        code=_printable(code, _MAX_CODE) or str(status),
        text=_printable(text, _MAX_TEXT) or f"HTTP status {status}",
        kind=kind,
        retry_after=_retry_after(headers) if status in _NOT_DONE else None,
    )


def outcome_of(word: str) -> Outcome:
    """Read an outcome in our words; "" for any other."""
    return _OUTCOMES.get(word, "")


def seconds_at(tree: Any, *path: str | int) -> int | None:
    """Read the whole seconds there, as a number or as text; None for anything else."""
    text = text_at(tree, *path)
    return int(text) if re.fullmatch(r"[0-9]{1,7}", text) else None


def time_at(tree: Any, *path: str | int) -> float:
    """Read the time there, by RFC 2822 or ISO 8601, as unix time; 0 for anything else, and for one without a zone."""
    text = text_at(tree, *path)
    date = _date(text) or _iso_date(text)
    return max(date.timestamp(), 0.0) if date is not None else 0.0


def state_of(status: str, outcome: str, duration: int | None = None, ended: float = 0.0) -> CallState:
    """Make the state of words that have been through a carrier's tables."""
    match status:
        case "ringing" | "answered":
            return CallState(status)
        case "ended":
            return CallState(status, outcome_of(outcome), duration, ended)
    return CallState()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110, section 10.2.3): seconds, or a date, which counts from the answer's own."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return min(float(value), _MAX_WAIT)
    then, now = _date(value), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    seconds = (then - now).total_seconds()
    return min(max(seconds, 0.0), _MAX_WAIT) if math.isfinite(seconds) else None


def _date(text: str) -> datetime | None:
    if not text or len(text) > 60:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return date if date.tzinfo is not None else None


def _iso_date(text: str) -> datetime | None:
    if not text or len(text) > 60:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else None


def _printable(text: str, most: int) -> str:
    """Write a stranger's text on one line, short, and without what a terminal might obey."""
    line = " ".join(text[: most * 4].split())
    return "".join(one if one.isprintable() else "?" for one in line)[:most]
