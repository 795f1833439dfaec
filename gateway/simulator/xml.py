"""An XML answer as verbs: what every dialect of it has in common.

`parse` turns one document into verbs, or raises `Illegal` with the number under which the carrier's debugger would
show it. A `Dialect` is one carrier's: its file names the verbs and reads them. Unknown attributes are ignored by the
carriers without a word: they become notes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lxml import etree

from gateway.simulator.carrier import StreamSpec

Element = etree._Element


class Illegal(Exception):
    """The carrier refuses this document. code: its error number, "" where it has none."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code


# --------------------------------------------------------------------------------------------------------- verbs


@dataclass(frozen=True, slots=True)
class Stream:
    """A media stream. foreground: later verbs wait for its end."""

    spec: StreamSpec
    foreground: bool = True


@dataclass(frozen=True, slots=True)
class Redirect:
    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Refuse:
    """As the first verb: the call is never answered, and not billed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hangup:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class PlayFile:
    url: str


@dataclass(frozen=True, slots=True)
class PlayDigits:
    digits: str


@dataclass(frozen=True, slots=True)
class Dial:
    targets: tuple[str, ...]
    action: str = ""
    method: str = "POST"
    follow: bool = True
    """What the action URL answers is obeyed."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A verb that means nothing to a simulated call; `why` says so."""

    name: str
    why: str


Verb = Stream | Redirect | Refuse | Hangup | Pause | Say | PlayFile | PlayDigits | Dial | Skipped


@dataclass(slots=True)
class Document:
    verbs: list[Verb] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the carrier swallows though it is not right."""


# --------------------------------------------------------------------------------------------------- dialects


@dataclass(frozen=True, slots=True)
class Dialect:
    """One carrier's language.

    verbs, nouns     with the attributes that each may have
    read             makes a verb of its element
    malformed        the carrier's number for what is no document
    unknown_verb     its number for what is wrong in a document
    size_limit       bytes
    stream_query     whether the query of a stream's URL is kept
    """

    name: str
    verbs: Mapping[str, frozenset[str]]
    nouns: Mapping[str, frozenset[str]]
    read: Callable[[Element, Dialect, Document], Verb]
    malformed: str
    unknown_verb: str
    size_limit: int
    stream_query: bool = True


def words(text: str) -> frozenset[str]:
    """Split a text into words, for the tables of verbs and attributes."""
    return frozenset(text.split())


SAY = words("voice language loop")
GATHER = words(
    "action method timeout finishOnKey numDigits input language hints speechTimeout partialResultCallback"
    " actionOnEmptyResult bargeIn profanityFilter partialResultCallbackMethod speechModel enhanced debug"
)
RECORD = words(
    "action method timeout finishOnKey maxLength playBeep trim recordingStatusCallback recordingChannel"
    " recordingStatusCallbackMethod recordingStatusCallbackEvent transcribe transcribeCallback"
)

# ------------------------------------------------------------------------------------------------- reading a document


def parse(text: str, dialect: Dialect) -> Document:
    """Read the verbs of one answer. Raises Illegal."""
    raw = text.encode()
    if len(raw) > dialect.size_limit:
        raise Illegal(dialect.malformed, f"{len(raw)} bytes of {dialect.name}; {dialect.size_limit} at most")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        raise Illegal(dialect.malformed, f"not well-formed: {error}") from None
    if root.tag != "Response":
        raise Illegal(dialect.malformed, f"the root is <{root.tag}>, not <Response>")
    if root.text and root.text.strip():
        raise Illegal(dialect.unknown_verb, "text outside of a verb")
    document = Document()
    for element in root:
        name = str(element.tag)
        if name not in dialect.verbs:
            raise Illegal(dialect.unknown_verb, f"<{name}> is no verb of {dialect.name}")
        check_attributes(element, dialect.verbs[name], document)
        document.verbs.append(dialect.read(element, dialect, document))
    return document


def check_attributes(element: Element, known: frozenset[str], document: Document) -> None:
    """Note each attribute that the carrier would ignore."""
    for name in element.attrib:
        if str(name) not in known:
            document.notes.append(f"<{element.tag}> has no attribute {str(name)!r}: ignored")


def text_of(element: Element) -> str:
    """Join all text in an element."""
    return "".join(str(part) for part in element.itertext()).strip()


def attributes_of(element: Element) -> dict[str, str]:
    """Return the attributes of an element."""
    return {str(name): str(value) for name, value in element.attrib.items()}


def read_dial(element: Element, nouns: tuple[str, ...]) -> Dial:
    """Read any carrier's <Dial>: whom, and where to go on."""
    targets = [text_of(child) for child in element if child.tag in nouns]
    if not targets and (text := text_of(element)):
        targets = [text]
    return Dial(tuple(targets), element.get("action", ""), element.get("method", "POST").upper())


def read_reason(element: Element, dialect: Dialect, reason: str) -> str:
    """Check why a call is refused: "rejected" or "busy". Raises Illegal."""
    if reason not in ("rejected", "busy"):
        raise Illegal(dialect.unknown_verb, f"<{element.tag} reason={reason!r}>")
    return reason


def read_seconds(element: Element, dialect: Dialect, default: str) -> float:
    """Read the `length` of a pause. Raises Illegal."""
    length = element.get("length", default)
    if not length.isascii() or not length.isdigit():
        raise Illegal(dialect.unknown_verb, f"<{element.tag} length={length!r}>")
    return float(length)


def check_stream_url(url: str, dialect: Dialect) -> None:
    """Let only wss pass. Raises Illegal.

    Plain ws is let through on loopback, where no carrier comes, so that a laptop needs no certificate.
    """
    parts = urlsplit(url)
    if parts.scheme == "wss" or (parts.scheme == "ws" and _is_loopback(parts.hostname or "")):
        return
    raise Illegal(dialect.unknown_verb, f"a stream URL with scheme {parts.scheme!r}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
