"""Plivo's signature V3: what it is over, and where it stands.

V3 is our own implementation of plivo/utils/signature_v3.py (4.63.0): the SDK raises UnicodeEncodeError on a
URL with `?x=%C3%A9`, compares with `in`, changes the caller's dict and knows no wss URL. V2 covers neither
query nor body and is not accepted.

Published recipes for the WebSocket upgrade disagree. We take the algorithm of the SDK, as for GET, over the
stream's URL under http (the one form seen to match on a live call), https, ws or wss. Left out is the third
recipe ("GET" + URL + nonce, without separators): it contradicts the SDK, and lets path and nonce be cut
elsewhere.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from gateway.carriers.base import HttpRequest
from gateway.carriers.form import LIMITS, Fields, wire

SIGNATURE = "x-plivo-signature-v3"
MAIN_SIGNATURE = "x-plivo-signature-ma-v3"
NONCE = "x-plivo-signature-v3-nonce"
_SIGNATURE = re.compile("[A-Za-z0-9+/]{43}=")
"""Base64 of a SHA-256: nothing else can be a signature."""
_MAX_SIGNATURES = 8
"""In both headers, separated by commas: several while tokens are rotated."""
MAX_NONCE = 128
_MAX_DEPTH = 8
"""Objects within objects of a JSON callback, of which Plivo documents one."""


def to_sign(method: str, url: str, query: Fields, params: Fields, nonce: str) -> bytes:
    """Return the bytes that V3 signs.

    url: without query. query, params: decoded, and sorted by name here. Raises ValueError for a JSON body of which they
    would be far more bytes than it has, or which is nested too deep: no callback of Plivo's is.
    """
    if method == "GET":
        query, params = Fields([*params.pairs(), *query.pairs()]), Fields()
    joined = b"&".join(name + b"=" + value for name, value in _sorted(query))
    signed = wire(url) + (b"?" if query or params else b"") + joined
    if params:
        signed += (b"." if joined else b"") + _concatenated(params)
    return signed + b"." + wire(nonce)


def sign(token: str, signed: bytes) -> str:
    """Signature V3."""
    return base64.b64encode(hmac.digest(token.encode(), signed, "sha256")).decode()


def _sorted(fields: Fields) -> Iterable[tuple[bytes, bytes]]:
    return ((wire(name), wire(value)) for name in sorted(fields) for value in sorted(fields.getlist(name)))


def _concatenated(params: Fields) -> bytes:
    if not params.tree:
        return b"".join(name + value for name, value in _sorted(params))
    parts: list[bytes] = []
    length = 0
    for part in _pieces(params.tree, _MAX_DEPTH):
        # A list repeats its name before each member: 140 KB of JSON could stand for gigabytes.
        length += len(part)
        if length > LIMITS.json:
            raise ValueError("far more to sign than was sent")
        parts.append(part)
    return b"".join(parts)


def _pieces(tree: Mapping[str, Any], depth: int) -> Iterator[bytes]:
    """Give out a JSON body as the SDK's get_sorted_params_string joins it.

    Raises ValueError: see `to_sign`.
    """
    if depth == 0:
        raise ValueError("nested too deep")
    for name in sorted(tree):
        value = tree[name]
        if isinstance(value, list):
            if any(isinstance(one, dict | list) for one in value):
                raise ValueError("nested in a list")
            for one in sorted(map(str, value)):
                yield wire(name + one)
        elif isinstance(value, dict):
            yield wire(name)
            yield from _pieces(value, depth - 1)
        else:
            yield wire(f"{name}{value}")


def digest(request: HttpRequest, query: Fields, params: Fields) -> str:
    """Hash all that was signed.

    Unambiguous where V3 is not (it joins `a=1&b=2` and `a=1%26b=2` to the same text): a retry has the same, another
    request under the same nonce has not.
    """
    said: list[object] = [request.method, request.path, sorted(query.pairs()), sorted(params.pairs())]
    if params.tree:
        said.append(request.body)
    return sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()


def signatures_in(request: HttpRequest) -> list[str]:
    """Find what can be a signature in both headers.

    None at all if they are longer than all that Plivo sends.
    """
    headers = request.headers.get(SIGNATURE, ""), request.headers.get(MAIN_SIGNATURE, "")
    if sum(map(len, headers)) > _MAX_SIGNATURES * 50:
        return []
    return [one.strip() for header in headers for one in header.split(",") if _SIGNATURE.fullmatch(one.strip())]
