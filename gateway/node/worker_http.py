"""Requests that are passed on to a worker's own HTTP server, as they came: nothing decoded, nothing kept open.

A connection for each: Pipecat Cloud's image waits at its end until the last one is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.sockets.tls import client_tls_context

if TYPE_CHECKING:
    import httpx

AT_ONCE = 64
"""Requests that are passed on at the same time: each may take as long as its bot likes, and is not to cost calls."""
Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class WorkerHttp:
    """Passes requests on. httpx is imported with the first."""

    running: int = 0
    """Requests that are being passed on. Those who pass them on count it, and heed AT_ONCE."""
    _client: httpx.AsyncClient | None = field(default=None, repr=False)

    async def send(
        self, url: str, method: str, target: bytes, headers: Headers, content: AsyncIterable[bytes] | None
    ) -> httpx.Response:
        """Send it, and return the answer, its body unread: close it. Raises any Exception of httpx, or of the content.

        url: the worker's, of its WebSocket. target: path and query, as they are to stand on the wire.
        """
        import httpx

        if self._client is None:
            limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                verify=client_tls_context(),  # as the worker's link: an authority of the owner's own is trusted, too
                limits=limits,
                timeout=None,  # noqa: S113 - the deadline is the caller's
                follow_redirects=False,
                trust_env=False,
            )
        place = urlsplit(url)
        scheme = "https" if place.scheme == "wss" else "http"
        request = httpx.Request(
            method,
            f"{scheme}://{place.netloc}/",
            headers=[*headers, (b"connection", b"close")],
            content=content,
            extensions={"target": target},
        )
        return await self._client.send(request, stream=True)

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
