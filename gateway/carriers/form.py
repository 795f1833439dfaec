"""What came with a webhook, as fields.

Query, urlencoded form, multipart form or JSON object.

A signature is computed over the fields as they are read here and the webhook is understood from the same reading, so
there are no two opinions of what was said. Blanks are kept (they are signed), names are case-sensitive (Plivo's `To`
beside the user's own `to`), and bytes that are not UTF-8 are signed as they came and read as U+FFFD.

Signed carriers' forms are read before a sender is believed, so reading costs about what hashing the body does: sizes
and counts are bounded first, and escapes are decoded in C.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from gateway.carriers.base import HttpRequest, Refused
from gateway.carriers.multipart import read_multipart
from gateway.carriers.parameters import KEY, OwnParameters, is_own, own_names
from serializers.base import IdPatterns


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a webhook may bring."""

    body: int = 64 * 1024
    """Bytes. Real ones have 0.5 to 4 KB."""
    json: int = 8 * 1024
    """Bytes of a JSON body: an object costs far more to read than to hash."""
    url: int = 8 * 1024
    """Characters of path and query."""
    content_type: int = 256
    """Characters of the header, the boundary included (70 at most)."""
    fields: int = 400
    """Real ones have about 30; SIP headers may add some."""
    odd_escapes: int = 2 * 1024
    """Bytes of a form whose percent signs are no escapes, which no carrier writes: it is read the slow way."""


LIMITS = Limits()

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class WebhookSchema:
    """How one carrier writes its webhooks.

    core: fields that decide something and may come once only: two readers could believe different values. call_id:
    those by which it names the call, the best first. known, known_prefixes: its other fields, which are not the flow
    author's where both stand in one query. multipart: it posts
    multipart forms (RFC 7578).
    """

    core: frozenset[str]
    call_id: tuple[str, ...]
    ids: IdPatterns
    known: frozenset[str] = frozenset()
    known_prefixes: tuple[str, ...] = ()
    multipart: bool = False

    def knows(self, name: str) -> bool:
        """Whether a field of this name is the carrier's."""
        return name in self.core or name in self.known or name.startswith(self.known_prefixes)


class Fields:
    """Names and values in the order they came; a name may have several values.

    tree: the JSON object itself, where the body was one; its nested members are nowhere else.
    """

    __slots__ = ("_values", "tree")

    def __init__(self, pairs: Iterable[tuple[str, str]] = (), tree: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)
        self.tree: Mapping[str, Any] = tree if tree is not None else {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self._values or self.tree)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def getlist(self, name: str) -> list[str]:
        """All values of a name, undecodable bytes as lone surrogates: see `wire`."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, str]]:
        """All names and values, grouped by name, undecodable bytes as lone surrogates."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def one(self, *names: str) -> str:
        """The first value that is not empty among these names, or ""."""
        return next((readable(value) for name in names for value in self._values.get(name, ()) if value), "")


def wire(text: str) -> bytes:
    """The bytes that a decoded text came as: what signatures are over."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no carrier's text
        return text.encode("utf-8", "surrogatepass")


def readable(text: str) -> str:
    """Put U+FFFD for bytes that are not UTF-8.

    The text can then be stored, written and shown.
    """
    return text if text.isascii() else wire(text).decode("utf-8", "replace")


def read(request: HttpRequest, schema: WebhookSchema) -> Fields | Refused:
    """The carrier's fields: of the query for GET, of the body for POST. Never raises."""
    if has_long_url(request) or len(request.body) > LIMITS.body:
        return Refused("too_large")
    if request.method == "GET":
        fields = Refused("bad_body") if request.body else read_query(request.query)
    elif request.method == "POST":
        fields = _read_body(request, schema)
    else:
        return Refused("bad_method")
    if isinstance(fields, Fields) and any(len(fields.getlist(name)) > 1 for name in schema.core):
        return Refused("duplicate_field")
    return fields


def has_long_url(request: HttpRequest) -> bool:
    """Whether the URL is longer than any that we give a carrier."""
    return len(request.path) + len(request.query) > LIMITS.url


class ParsedRequest(NamedTuple):
    """What a webhook says.

    The carrier's fields, our own parameters, the flow author's, and the call.
    """

    fields: Fields
    own: OwnParameters
    custom_params: dict[str, str]
    call_id: str


def parse_request(request: HttpRequest, schema: WebhookSchema) -> ParsedRequest | Refused:
    """The webhook of a call, its fields kept apart by whose they are. Never raises."""
    fields = read(request, schema)
    if isinstance(fields, Refused):
        return fields
    query = read_query(request.query)
    if isinstance(query, Refused):
        return query
    if any(len(query.getlist(name)) > 1 for name in own_names(query)):
        return Refused("duplicate_field")
    own = OwnParameters.read({name: query.one(name) for name in own_names(query)})
    authors = _author_names(query, schema if request.method == "GET" else None)
    custom_params = {readable(name): readable(query.getlist(name)[0]) for name in authors}
    if request.method == "GET":
        fields = Fields((name, value) for name, value in fields.pairs() if not (name in authors or is_own(name)))
    call_id = fields.one(*schema.call_id)
    if call_id and not schema.ids.is_call(call_id):
        return Refused("bad_call_id")
    return ParsedRequest(fields, own, custom_params, call_id)


def _author_names(query: Fields, schema: WebhookSchema | None) -> list[str]:
    """Find the names in a query that the flow's author wrote.

    schema: of the carrier whose fields are among them.

    Carriers add their fields behind the author's, and new ones appear over time, all in capitals as the old ones: so an
    unknown capitalized name is the carrier's where it stands behind a known one, else the author's.
    """
    names: list[str] = []
    carrier_began = False
    for name in query:
        if is_own(name):
            continue
        if schema is not None and schema.knows(name):
            carrier_began = True
        elif not (carrier_began and name[:1].isupper()):
            names.append(name)
    return names


def read_query(query: str) -> Fields | Refused:
    """A raw query string."""
    return _urlencoded(query.encode("utf-8", "surrogatepass"), "bad_query")


def content_type(request: HttpRequest) -> str:
    """The body's media type, lower case, without parameters."""
    return request.headers.get("content-type", "")[: LIMITS.content_type].partition(";")[0].strip().lower()


def is_json(request: HttpRequest) -> bool:
    """Whether the body says that it is JSON."""
    kind = content_type(request)
    return kind == "application/json" or kind.endswith("+json")


class OfferedKeys(NamedTuple):
    """Keys that a request shows; "" where there is none."""

    query: str
    basic: str


def offered_keys(request: HttpRequest) -> OfferedKeys:
    """Read the keys that a webhook or an upgrade shows.

    The `?key=` and the Basic password (of any user; RFC 7617). Never raises.
    """
    return OfferedKeys(
        query=read_one(request.query, KEY),  # two keys would be two guesses
        basic=_basic_password(request.headers.get("authorization", "")),
    )


def read_one(query: str, name: str) -> str:
    """Read the one value of this name in a raw query string.

    "" unless there is exactly one, and UTF-8. Never raises.
    """
    fields = read_query(query) if len(query) <= LIMITS.url else Refused("too_large")
    values = fields.getlist(name) if isinstance(fields, Fields) else []
    return values[0] if len(values) == 1 and values[0] == readable(values[0]) else ""


def _basic_password(header: str) -> str:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic" or len(credentials) > 2048:
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        return ""


def _read_body(request: HttpRequest, schema: WebhookSchema) -> Fields | Refused:
    if len(request.headers.get("content-type", "")) > LIMITS.content_type:
        return Refused("bad_body")
    if is_json(request):
        return _json(request.body)
    kind = content_type(request)
    if kind in ("", FORM):
        return _urlencoded(request.body, "bad_body")
    if kind == "multipart/form-data" and schema.multipart:
        pairs = read_multipart(request.body, request.headers["content-type"], most=LIMITS.fields)
        return Refused("bad_body") if pairs is None else Fields(pairs)
    return Refused("bad_body")


def _urlencoded(raw: bytes, reason: str) -> Fields | Refused:
    """Read `application/x-www-form-urlencoded`.

    WHATWG URL, section 5.1; undecodable bytes become lone surrogates.
    """
    if raw.count(b"&") >= LIMITS.fields:
        return Refused(reason)
    parts = (pair.replace(b"+", b" ").partition(b"=") for pair in raw.split(b"&") if pair)
    try:
        return Fields([(_unescaped(name), _unescaped(value)) for name, _, value in parts])
    except UnicodeDecodeError:  # a percent sign that is no escape stands for itself
        if len(raw) > LIMITS.odd_escapes:
            return Refused(reason)
        pairs = parse_qsl(raw.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape")
        return Fields(pairs)


def _unescaped(raw: bytes) -> str:
    """Decode a percent-encoded name or value.

    Raises UnicodeDecodeError for a percent sign that is no escape.
    """
    if b"%" in raw:
        # Python's own escapes are decoded in C: "%41" is "\x41", once the backslashes are out of the way.
        raw = raw.replace(b"\\", b"\\\\").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
    return raw.decode("utf-8", "surrogateescape")


def _json(body: bytes) -> Fields | Refused:
    if len(body) > LIMITS.json:
        return Refused("too_large")
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            tree = orjson.loads(body.decode("utf-8", "replace"))  # the byte costs its text, not the call
        except orjson.JSONDecodeError:
            return Refused("bad_body")
    if not isinstance(tree, dict):
        return Refused("bad_body")
    scalars = [(name, _text(value)) for name, value in tree.items() if not isinstance(value, dict | list)]
    return Refused("bad_body") if len(scalars) > LIMITS.fields else Fields(scalars, tree)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
