"""Multipart forms (RFC 7578): Exotel's status callbacks come like this.

Read only of a request that is believed already, and only where the carrier sends it. Headers are bounded before their
parameters are looked for, which can cost far more than their length.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BOUNDARY = 70  # RFC 2046, section 5.1.1
MAX_HEADER = 512
"""Bytes of one part's header: a name and a field's name, with room."""
MAX_HEADERS = 8
"""Headers of one part: disposition, type and transfer encoding are all that are defined."""

_SILENT = logging.Logger("multipart", logging.CRITICAL + 1)


def read_multipart(body: bytes, header: str, *, most: int) -> list[tuple[str, str]] | None:
    """Read names and values; None if the body is no such form.

    header: the Content-Type. most: parts allowed.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    parts = _Parts(most)
    try:
        boundary = parse_options_header(header)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= MAX_BOUNDARY:
            return None
        parser = MultipartParser(boundary, parts.callbacks())
        parser.logger = _SILENT  # it warns of every strange byte, and strangers choose them
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        return None
    return parts.pairs if parts.whole else None


@dataclass(slots=True)
class _Parts:
    """Collect fields from the parser's callbacks; forget file names.

    most: parts allowed.
    """

    most: int
    pairs: list[tuple[str, str]] = field(default_factory=list)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    headers: int = 0
    disposition: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.begin,
            "on_header_field": lambda data, start, end: _extend(self.header_name, data, start, end),
            "on_header_value": lambda data, start, end: _extend(self.header_value, data, start, end),
            "on_header_end": self.header,
            "on_part_data": lambda data, start, end: self.data.extend(data[start:end]),
            "on_part_end": self.end,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        self.disposition = b""
        self.headers = 0
        self.data.clear()

    def header(self) -> None:
        self.headers += 1
        if self.headers > MAX_HEADERS:
            raise ValueError("too many headers")
        if bytes(self.header_name).lower() == b"content-disposition":
            self.disposition = bytes(self.header_value)
        self.header_name.clear()
        self.header_value.clear()

    def end(self) -> None:
        from python_multipart.multipart import parse_options_header

        name = parse_options_header(self.disposition)[1].get(b"name")
        if name is None:
            raise ValueError("a part without a name")
        if len(self.pairs) >= self.most:
            raise ValueError("too many parts")
        self.pairs.append((name.decode("utf-8", "replace"), self.data.decode("utf-8", "replace")))

    def finish(self) -> None:
        self.whole = True


def _extend(header: bytearray, data: bytes, start: int, end: int) -> None:
    if len(header) + end - start > MAX_HEADER:
        raise ValueError("a long header")
    header.extend(data[start:end])
