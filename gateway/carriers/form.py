"""What came with a webhook, as fields: query, urlencoded form, multipart form or JSON object.

A signature is computed over the fields as they are read here and the webhook is understood from the same
reading, so there are no two opinions of what was said. Blanks are kept (they are signed), names are
case-sensitive (Plivo's `To` beside the user's own `to`), text that is not UTF-8 is refused, and count and
size are bounded.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from gateway.carriers.base import HttpRequest, Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a webhook may bring."""

    body: int = 256 * 1024
    """Bytes. Real ones have 0.5 to 4 KB."""
    url: int = 8 * 1024
    """Characters of path and query."""
    fields: int = 400
    """Real ones have about 30; SIP headers may add some."""
    value: int = 64 * 1024
    """Characters of one value."""
    call_id: int = 512
    """Telnyx's call control ids have about 100."""


LIMITS = Limits()

_SILENT = logging.Logger("multipart", logging.CRITICAL + 1)

OURS = "serviceHost"
OURS_PREFIX = "gw_"
KEY = "key"


class Fields:
    """Names and values in the order they came; a name may have several values.

    It is also the multidict that Twilio's RequestValidator understands (iteration, `getlist`, truth). tree:
    the JSON object itself, where the body was one; its nested members are nowhere else.
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
        """All values of a name."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, str]]:
        """All names and values, grouped by name."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def one(self, *names: str) -> str:
        """The first value that is not empty among these names, or ""."""
        return next((value for name in names for value in self._values.get(name, ()) if value), "")


def read(request: HttpRequest, *, once: Collection[str] = ()) -> Fields | Refused:
    """The carrier's fields: of the query for GET, of the body for POST. Never raises.

    once: core fields; to name one twice is refused, as two readers could believe different values.
    """
    if has_long_url(request) or len(request.body) > LIMITS.body:
        return Refused("too_large")
    if request.method == "GET":
        fields = Refused("bad_body") if request.body else read_query(request.query)
    elif request.method == "POST":
        fields = _read_body(request)
    else:
        return Refused("bad_method")
    if isinstance(fields, Fields) and any(len(fields.getlist(name)) > 1 for name in once):
        return Refused("duplicate_field")
    return fields


def has_long_url(request: HttpRequest) -> bool:
    """Longer than anybody's who calls us by what we have told him."""
    return len(request.path) + len(request.query) > LIMITS.url


class ParsedRequest(NamedTuple):
    """What a webhook says. ours: see `read_ours`. call_id: "" if it names no call, or by something endless."""

    fields: Fields
    ours: dict[str, str]
    call_id: str


def parse_request(request: HttpRequest, *, once: Collection[str], call_id: Collection[str]) -> ParsedRequest | Refused:
    """The webhook of a call: the carrier's fields and ours. Never raises.

    once: see `read`. call_id: the fields by which the carrier names the call, the best first.
    """
    fields = read(request, once=once)
    if isinstance(fields, Refused):
        return fields
    ours = read_ours(request)
    if isinstance(ours, Refused):
        return ours
    name = fields.one(*call_id)
    return ParsedRequest(fields, ours, name if len(name) <= LIMITS.call_id else "")


def read_query(query: str) -> Fields | Refused:
    """A raw query string."""
    return _urlencoded(query, "bad_query")


def read_ours(request: HttpRequest) -> dict[str, str] | Refused:
    """What we, or the author of the flow, put into the URL, without the carrier's own fields and without
    `key`.

    With POST that is the whole query. With GET the carrier's fields stand among ours, and a stranger to the
    list of its names cannot be told from them: so only `serviceHost` and names that begin with `gw_` count.
    """
    fields = read_query(request.query)
    if isinstance(fields, Refused):
        return fields
    ours: dict[str, str] = {}
    for name in fields:
        if name == KEY or (request.method == "GET" and name != OURS and not name.startswith(OURS_PREFIX)):
            continue
        values = fields.getlist(name)
        if len(values) > 1 and (name == OURS or name.startswith(OURS_PREFIX)):  # the author's own may repeat
            return Refused("duplicate_field")
        ours[name] = values[0]
    return ours


def content_type(request: HttpRequest) -> str:
    """The body's media type, lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(request: HttpRequest) -> bool:
    """Whether the body says that it is JSON."""
    kind = content_type(request)
    return kind == "application/json" or kind.endswith("+json")


class OfferedKeys(NamedTuple):
    """Keys that a request shows; "" where there is none."""

    query: str
    basic: str


def offered_keys(request: HttpRequest) -> OfferedKeys:
    """The `?key=` and the Basic password (of any user; RFC 7617) of a webhook or an upgrade. Never raises."""
    return OfferedKeys(
        query=read_one(request.query, KEY),  # two keys would be two guesses
        basic=_basic_password(request.headers.get("authorization", "")),
    )


def read_one(query: str, name: str) -> str:
    """The value of this name in a raw query string, "" unless there is exactly one. Never raises."""
    fields = read_query(query) if len(query) <= LIMITS.url else Refused("too_large")
    values = fields.getlist(name) if isinstance(fields, Fields) else []
    return values[0] if len(values) == 1 else ""


def _basic_password(header: str) -> str:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic" or len(credentials) > 2048:
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        return ""


def _read_body(request: HttpRequest) -> Fields | Refused:
    if is_json(request):
        return _json(request.body)
    kind = content_type(request)
    if kind in ("", "application/x-www-form-urlencoded"):
        try:
            return _urlencoded(request.body.decode(), "bad_body")
        except UnicodeDecodeError:
            return Refused("bad_body")
    if kind == "multipart/form-data":
        return _multipart(request.body, request.headers["content-type"])
    return Refused("bad_body")


def _urlencoded(text: str, reason: str) -> Fields | Refused:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=LIMITS.fields)
    except ValueError:  # not UTF-8 under the percent signs, or too many fields
        return Refused(reason)
    return _bounded(pairs, reason)


def _bounded(pairs: list[tuple[str, str]], reason: str) -> Fields | Refused:
    if len(pairs) > LIMITS.fields:
        return Refused(reason)
    if any(len(name) > LIMITS.value or len(value) > LIMITS.value for name, value in pairs):
        return Refused("too_large")
    return Fields(pairs)


def _json(body: bytes) -> Fields | Refused:
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refused("bad_body")
    if not isinstance(tree, dict):
        return Refused("bad_body")
    scalars = [(name, _text(value)) for name, value in tree.items() if not isinstance(value, dict | list)]
    fields = _bounded(scalars, "bad_body")
    return fields if isinstance(fields, Refused) else Fields(fields.pairs(), tree)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(slots=True)
class _Parts:
    """The callbacks of the multipart parser: collects fields, forgets file names."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.begin,
            "on_header_field": lambda data, start, end: self.header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self.header_value.extend(data[start:end]),
            "on_header_end": self.header,
            "on_part_data": lambda data, start, end: self.data.extend(data[start:end]),
            "on_part_end": self.end,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        self.disposition = b""
        self.data.clear()

    def header(self) -> None:
        if bytes(self.header_name).lower() == b"content-disposition":
            self.disposition = bytes(self.header_value)
        self.header_name.clear()
        self.header_value.clear()

    def end(self) -> None:
        from python_multipart.multipart import parse_options_header

        name = parse_options_header(self.disposition)[1].get(b"name")
        if name is None:
            raise ValueError("a part without a name")
        if len(self.pairs) >= LIMITS.fields:
            raise ValueError("too many parts")
        self.pairs.append((name.decode(), self.data.decode()))

    def finish(self) -> None:
        self.whole = True


def _multipart(body: bytes, header: str) -> Fields | Refused:
    """RFC 7578. Exotel's status callbacks come like this."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    parts = _Parts()
    try:
        boundary = parse_options_header(header)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
            return Refused("bad_body")
        parser = MultipartParser(boundary, parts.callbacks())
        parser.logger = _SILENT  # it warns of every strange byte, and strangers choose them
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        return Refused("bad_body")
    return _bounded(parts.pairs, "bad_body") if parts.whole else Refused("bad_body")
