"""Requests to carriers' REST APIs and to static workers: one client for the process, a deadline for each, and nothing
repeated.

httpx's own timeout is for each step (connecting, each read): a peer who sends a byte now and then is never late, so the
deadline is ours. Any Exception is caught, as an impossible address raises what the layers below httpx happen to: a
UnicodeError for "a..b", an OverflowError in an ExceptionGroup for port 99999.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from gateway.carriers.orders import RestCall
from gateway.carriers.rest_answers import MAX_BODY, is_accepted

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

_SENDING = "send_request_headers.started"
"""What httpcore calls the moment from which the other side may have the request (its extension "trace")."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, whatever it says.

    headers: names in lower case. body: the first MAX_BODY bytes; fewer if it broke off, as the status says already what
    was done.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was not sent, so nothing was done: it may be sent again.

    reason: the error's name, without the URL.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The request was sent, at least in part, and no answer came: it may have been done.

    reason: the error's name, without the URL.
    """

    reason: str


SendResult: TypeAlias = HttpReply | NotSent | Unanswered


@dataclass(slots=True)
class _Exchange:
    """How far one request has come."""

    sending: bool = False
    reply: HttpReply | None = None
    body: bytearray = field(default_factory=bytearray)

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        self.sending = self.sending or event.endswith(_SENDING)


@dataclass(slots=True)
class HttpClient:
    """Ask carriers and static workers. httpx is imported with the first request, or by `warm_up`."""

    _client: httpx.AsyncClient | None = field(default=None, repr=False)

    def warm_up(self) -> None:
        """Import what the first request needs, and read the certificates: a caller is waiting for that one.

        May be called in a thread.
        """
        self._open()

    async def send(self, call: RestCall, seconds: float) -> SendResult:
        """Send the request once. Never raises.

        seconds: until the last byte of the answer.
        """
        exchange = _Exchange()
        try:
            async with asyncio.timeout(seconds):
                await self._exchange(call, exchange, seconds)
        except Exception as error:
            if exchange.reply is None:
                reason = type(error).__name__
                return Unanswered(reason) if exchange.sending else NotSent(reason)
        assert exchange.reply is not None
        return HttpReply(exchange.reply.status, exchange.reply.headers, bytes(exchange.body))

    async def _exchange(self, call: RestCall, exchange: _Exchange, seconds: float) -> None:
        async with self._open().stream(
            call.method,
            call.url,
            auth=call.auth,
            headers=dict(call.headers),
            data=dict(call.form) if call.form is not None else None,
            json=dict(call.json) if call.json is not None else None,
            timeout=seconds,
            extensions={"trace": exchange.trace},
        ) as answer:
            exchange.reply = HttpReply(answer.status_code, dict(answer.headers), b"")
            async for chunk in answer.aiter_bytes():
                exchange.body += chunk[: MAX_BODY - len(exchange.body)]
                if len(exchange.body) >= MAX_BODY:
                    return  # the connection is closed with it

    async def ask(self, call: RestCall, *, seconds: float) -> bool:
        """Return whether it was done, or needed no doing. Never raises: the caller has a second way to do it."""
        reply = await self.send(call, seconds)
        if not isinstance(reply, HttpReply):
            log.warning("the carrier's REST API did not answer", error=reply.reason)
            return False
        if is_accepted(reply.status) or str(reply.status) in call.done:
            return True
        text = reply.body.decode(errors="replace")
        # A status is none of these words: an id in an error's body may have its three digits, too.
        if any(word in text for word in call.done if not re.fullmatch(r"[1-5]\d\d", word)):
            return True
        log.warning("the carrier's REST API refused", status=reply.status)
        return False

    async def status(self, url: str, *, seconds: float) -> int | None:
        """Return the status that a GET of this page is answered with, None for no answer. Its body is not read."""
        try:
            async with asyncio.timeout(seconds), self._open().stream("GET", url, timeout=seconds) as answer:
                return answer.status_code
        except Exception:
            return None

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            # httpx's authorities for carriers; the machine's for static workers, which may have one of the owner's own.
            trusted = httpx.create_ssl_context(trust_env=False)
            trusted.load_default_certs()
            self._client = httpx.AsyncClient(verify=trusted, follow_redirects=False, trust_env=False)
        return self._client

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
