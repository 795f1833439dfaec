"""Answer with a file, or with the one range of it that was asked for (RFC 9110, section 14).

Of several ranges, of what is no range, and of one of an older file, the answer is the whole.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.problems import Problem, not_found

CHUNK = 64 * 1024
"""Bytes read and sent at once, by a thread and without holding more of the file."""


class FileAnswer(Response):
    """One file. first, last: of the bytes that are sent."""

    def __init__(self, file: int, status: int, headers: Mapping[str, str], first: int, last: int) -> None:
        super().__init__(None, status, headers)
        self._file = file
        self._first, self._last = first, last

    @classmethod
    async def of(cls, path: Path, types: Mapping[str, str], asked: Mapping[str, str]) -> FileAnswer | Problem:
        """Open the file. types: media types by its ending. asked: the request's headers."""
        try:
            file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return not_found("The file is not there any more")
        stat = os.fstat(file)
        changed = formatdate(stat.st_mtime, usegmt=True)
        wanted = asked.get("range", "") if asked.get("if-range", changed) == changed else ""
        span = byte_range(wanted, stat.st_size)
        if span is None:
            os.close(file)
            headers = {"content-range": f"bytes */{stat.st_size}"}
            return Problem(416, f"The file has {stat.st_size} bytes.", "range", headers=headers)
        first, last, partial = *span, span != (0, stat.st_size - 1)
        headers = {
            "content-type": types[path.suffix],
            "content-length": str(last - first + 1),
            "content-disposition": f'attachment; filename="{path.name}"',
            "accept-ranges": "bytes",
            "last-modified": changed,
            "cache-control": "private, no-store",
            "x-content-type-options": "nosniff",
        }
        if wanted and partial:
            headers["content-range"] = f"bytes {first}-{last}/{stat.st_size}"
        return cls(file, 206 if wanted and partial else 200, headers, first, last)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at, left = self._first, self._last - self._first + 1
            if scope["method"] == "HEAD":
                left = 0
            while left > 0:
                data = await asyncio.to_thread(os.pread, self._file, min(CHUNK, left), at)
                if not data:
                    break  # it has been cut; the connection ends short of its length
                at, left = at + len(data), left - len(data)
                await send({"type": "http.response.body", "body": data, "more_body": left > 0})
            if scope["method"] == "HEAD" or self._last < self._first:
                await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._file)


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of the range that is asked for; None if the file has no such range."""
    whole = (0, size - 1)
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text.strip().lower())
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:  # the last so many
        last_bytes = int(found[2])
        return (max(0, size - last_bytes), size - 1) if last_bytes and size else None
    first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
    if found[2] and int(found[2]) < first:
        return whole  # no valid range
    return (first, last) if first < size else None
