"""Requests to carriers' REST APIs and to static workers: one client for the process, a deadline for each, and nothing
repeated blindly.

httpx's own timeout is for each step (connecting, each read): a peer who sends a byte now and then is never late, so the
deadline is ours. Any Exception is caught, as an impossible address raises what the layers below httpx happen to: a
UnicodeError for "a..b", an OverflowError in an ExceptionGroup for port 99999.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.base import RestCall

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Rest:
    """The client. httpx is imported with the first request, or by `warm_up`."""

    _client: httpx.AsyncClient | None = field(default=None, repr=False)

    def warm_up(self) -> None:
        """Import what the first request will need: somebody hangs up then."""
        import httpx  # noqa: F401 - it is loaded, which is all

    async def ask(self, call: RestCall, *, seconds: float) -> bool:
        """Was it done, or did it need no doing? Never raises: whoever asks has a second line."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._open().request(
                    call.method,
                    call.url,
                    auth=call.auth,
                    headers=dict(call.headers),
                    data=dict(call.form) if call.form is not None else None,
                    json=dict(call.json) if call.json is not None else None,
                    timeout=seconds,
                )
        except Exception as error:
            log.warning("the carrier's REST API did not answer", error=type(error).__name__)
            return False
        if answer.is_success or str(answer.status_code) in call.done or any(word in answer.text for word in call.done):
            return True
        log.warning("the carrier's REST API refused", status=answer.status_code)
        return False

    async def status(self, url: str, *, seconds: float) -> int | None:
        """The status that a GET of this page is answered with, whose body is not read; None if it is not."""
        try:
            async with asyncio.timeout(seconds), self._open().stream("GET", url, timeout=seconds) as answer:
                return answer.status_code
        except Exception:
            return None

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False, trust_env=False)
        return self._client

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
