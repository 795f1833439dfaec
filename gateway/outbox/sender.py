"""One attempt: a POST, a bound for its time and for what is read of the answer.

URLs are the operator's own. Redirects are not followed, as they would lead to places that the operator has not named;
proxies of the environment are not used; no more of an answer is read than its head and a few kilobytes. Certificates
are checked against the machine's authorities and those that httpx brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.outbox.verdict import Reply

if TYPE_CHECKING:
    import httpx

MOST_READ = 16 * 1024
"""Bytes of an answer's body. It says nothing to us: it is read so that the connection can be used again."""
READ_SECONDS = 0.3
"""For that body, which mostly comes with the head."""
IDLE_CONNECTIONS = 10
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""OpenSSL's word, in what httpx says."""
USER_AGENT = "carrier-stream-gateway"


@dataclass(slots=True)
class Sender:
    """Posts events. seconds: for one attempt, until the head of its answer is there."""

    seconds: float = 15.0
    _client: httpx.AsyncClient | None = field(default=None, repr=False)

    async def post(self, url: str, body: str, headers: Mapping[str, str]) -> Reply:
        """Deliver one body. Never raises: what goes wrong is a reply without a status."""
        import httpx

        all_headers = {"content-type": "application/json", "accept-encoding": "identity", **headers}
        reply = None
        try:
            async with (
                asyncio.timeout(self.seconds) as bound,
                self._open().stream("POST", url, content=body.encode(), headers=all_headers) as answer,
            ):
                reply = Reply(answer.status_code, retry_after=_seconds(answer.headers.get("retry-after", "")))
                bound.reschedule(asyncio.get_running_loop().time() + READ_SECONDS)
                await _read_some(answer)
        except Exception as error:  # an impossible address raises what the layers below httpx happen to
            if reply is not None:
                return reply
            if isinstance(error, TimeoutError | httpx.TimeoutException):
                return Reply(0, f"no answer within {self.seconds:g} s")
            if isinstance(error, httpx.ConnectError):
                return Reply(0, "its certificate is not trusted" if UNTRUSTED in str(error) else "no connection")
            return Reply(0, f"no HTTP answer: {type(error).__name__}")
        return reply

    def warm_up(self) -> None:
        """Import what the first attempt needs, and read the certificates. May be called in a thread."""
        from standardwebhooks.webhooks import Webhook  # noqa: F401 - it is loaded, which is all

        self._open()

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            # An endpoint may be inside, with a certificate of the owner's own authority; not every image has a list.
            trusted = httpx.create_ssl_context(trust_env=False)
            trusted.load_default_certs()
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS)
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                verify=trusted,
                limits=limits,
                timeout=self.seconds,
                headers={"user-agent": USER_AGENT},
            )
        return self._client

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


async def _read_some(answer: httpx.Response) -> None:
    read = 0
    async for chunk in answer.aiter_raw():
        read += len(chunk)
        if read > MOST_READ:
            return


def _seconds(text: str) -> float:
    """Read Retry-After as seconds; 0 for a date, which is too rare to be worth a clock."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
