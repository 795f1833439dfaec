"""The carrier's HTTP client.

It signs a request, sends it to where the gateway really listens, and notes how it went.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import urlencode, urljoin, urlsplit

import anyio
import anyio.lowlevel
import httpx

from gateway.errors import UserError
from gateway.simulator import clock
from gateway.simulator.carrier import Request, SimulatedCarrier
from gateway.simulator.plan import CallPlan
from gateway.simulator.recorder import Recorder

BOUNDARY = "form-data-boundary-lebu8d9e3h8xzvhf"
CONNECT_TIMEOUT = 5.0
KNOCK_SECONDS = 5.0
MAX_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request in the report's log. status 0: no answer. path: with its query."""

    method: str
    path: str
    status: int
    ms: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    status 0: nothing. url: what was asked last. location: where a redirect leads, as written.
    """

    url: str
    status: int
    text: str
    content_type: str
    ms: float
    error: str = ""
    location: str = ""


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Make the TLS context, once.

    It reads a file of certificates for 15 ms, and a hundred calls would wait for that.
    """
    return ssl.create_default_context()


async def knock(base_url: str) -> None:
    """Ask whether anything answers there, whatever it answers.

    Raises UserError, so that no call is placed in vain.
    """
    async with httpx.AsyncClient(verify=tls_context(), trust_env=False, timeout=KNOCK_SECONDS) as client:
        try:
            await client.get(base_url.rstrip("/") + "/livez")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise UserError(f"--url: nothing answers at {base_url} ({reason}); is the gateway running there?") from None


class Http:
    """One call's connection to the gateway. Use as an async context manager."""

    def __init__(self, plan: CallPlan, carrier: SimulatedCarrier, recorder: Recorder | None) -> None:
        self.log: list[Exchange] = []
        self._plan = plan
        self._carrier = carrier
        self._recorder = recorder
        self._client = httpx.AsyncClient(
            verify=tls_context(),
            timeout=httpx.Timeout(carrier.read_timeout, connect=CONNECT_TIMEOUT),
            trust_env=False,
            headers={"User-Agent": f"{carrier.name}-simulator"},
        )

    async def __aenter__(self) -> Http:
        # httpx's transport imports its backend at the first request, for 20 ms: not in the time of the webhook.
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def send(self, request: Request) -> Answer:
        """Send it, and follow the redirects that this carrier follows.

        An answer that never came has status 0. One that still redirects after MAX_REDIRECTS is returned as it is.
        """
        answer = await self._send(request)
        ms = answer.ms
        for _ in range(MAX_REDIRECTS):
            onward = redirected(request, answer, self._carrier.followed_redirects)
            if onward is None:
                break
            request, answer = onward, await self._send(onward)
            ms += answer.ms
        return replace(answer, ms=ms)

    async def _send(self, request: Request) -> Answer:
        """Send one request. A failed connection is tried once more, as carriers do."""
        if self._recorder:
            self._recorder.request(request.method, request.url, tuple(request.fields))
        answer = await self._try(request)
        if answer.status == 0:
            answer = await self._try(request)
        if self._recorder and answer.status:
            self._recorder.response(answer.status, answer.text)
        return answer

    async def _try(self, request: Request) -> Answer:
        body, content_type = encoded_body(request)
        headers = self._carrier.headers(request, body)
        if content_type:
            headers["Content-Type"] = content_type
        url = local_url(request.full_url, self._plan)
        began = clock.now()
        error = ""
        try:
            response = await self._client.request(request.method, url, content=body, headers=headers)
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__} {failure}".strip()
        ms = (clock.now() - began) * 1000
        parts = urlsplit(request.full_url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if error:
            self.log.append(Exchange(request.method, path, 0, ms, error))
            return Answer(request.url, 0, "", "", ms, error)
        self.log.append(Exchange(request.method, path, response.status_code, ms))
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        location = response.headers.get("location", "")
        return Answer(request.url, response.status_code, response.text, kind, ms, location=location)


def redirected(request: Request, answer: Answer, followed: Collection[int]) -> Request | None:
    """Make the request that an HTTP redirect asks for.

    None if the carrier does not follow it, or it leads nowhere.

    307 repeats the method and 301 to 303 change it to GET (RFC 9110, section 15.4); the fields of a GET are its query.
    """
    if answer.status not in followed or not answer.location:
        return None
    url = absolute(answer.location, request.url)
    if urlsplit(url).scheme not in ("http", "https"):
        return None
    return replace(request, url=url, method=request.method if answer.status == 307 else "GET")


def encoded_body(request: Request) -> tuple[bytes, str]:
    """Return the body of a request and its Content-Type, both empty for a GET."""
    if request.method == "GET":
        return b"", ""
    if not request.multipart:
        return urlencode(request.fields).encode(), "application/x-www-form-urlencoded"
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in request.fields
    ]
    body = "".join(parts) + f"--{BOUNDARY}--\r\n\r\n"
    return body.encode(), f"multipart/form-data; boundary={BOUNDARY}"


# ------------------------------------------------------------------------------------------------------------ URLs


def local_url(url: str, plan: CallPlan) -> str:
    """Turn a URL under the gateway's public one into one that is reached from here.

    Any other URL stays as it is.
    """
    base, public = plan.base_url.rstrip("/"), plan.public
    if _swallows(public, url):
        return base + url[len(public) :]
    return url


def local_stream_url(url: str, plan: CallPlan) -> str:
    """Do the same for a wss:// URL.

    It is opened at the base URL's host, with TLS only where that is https.
    """
    base, public = _websocket(plan.base_url.rstrip("/")), _websocket(plan.public)
    scheme, _, rest = url.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    bare = f"{scheme}://{rest[len(user) + len(at) :]}" if at else url
    if _swallows(public, bare):
        return base + bare[len(public) :]
    return bare


def public_stream_url(path: str, plan: CallPlan) -> str:
    """Turn a path of the gateway into its public wss URL."""
    return _websocket(plan.public) + path


def absolute(url: str, document_url: str) -> str:
    """Resolve a URL of an answer: it may be relative to the URL that answered."""
    return urljoin(document_url, url) if url else document_url


def _websocket(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return ("wss://" if scheme == "https" else "ws://") + rest


def _swallows(prefix: str, url: str) -> bool:
    return url.startswith(prefix) and url[len(prefix) : len(prefix) + 1] in ("", "/", "?")
