"""`/v1/public/{agent}/sessions/{session_id}/{path}`: a request to a running session's worker, passed on as it came.

Pipecat Cloud's Session API (https://docs.pipecat.ai/pipecat-cloud/guides/session-api): what its image serves is one web
application, in which a bot has routes of its own beside `/ws`. Bodies are streamed, both ways, and bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from typing import TYPE_CHECKING

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.agents import NO_SESSION, find_session
from gateway.api.operation import Answer, Asked
from gateway.api.parts import Api
from gateway.api.problems import Problem
from gateway.errors import RegistryUnavailable
from gateway.node.worker_http import AT_ONCE
from gateway.pool.registry import Claim
from gateway.protocol import pcm

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

SECONDS = 30.0
"""From a request's headers to the last byte of its answer."""
MAX_REQUEST = 1024 * 1024
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of a body."""
IMAGES_OWN = frozenset({"bot", "ws", "api/offer", "whatsapp", "readyz", "livez"})
"""Paths of Pipecat Cloud's image itself, by its guide: three of them would start a second bot in the worker."""
HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""RFC 9110, section 7.6.1; what `Connection` names comes to them."""
NOT_PASSED = HOP_BY_HOP | {"host", "content-length", "authorization", pcm.SESSION_HEADER}
"""Of a request; the length of a body is said anew, and the session's id is ours to say."""
NOT_RETURNED = HOP_BY_HOP | {"date", "server"}
"""Of an answer."""


class TooLarge(Exception):
    """The request's body is larger than it may be."""


async def proxy(api: Api, asked: Asked) -> Answer:
    """Pass the request on to the session's worker, and return what it answers.

    All headers reach the bot but host, content-length and authorization, which is for the gateway. A body has at most
    1 MB, an answer 16 MB, and both together take 30 s at most.
    """
    claim = await _worker_of(api, asked)
    if isinstance(claim, Problem):
        return claim
    assert claim.worker is not None
    request, workers = asked.request, api.node.worker_http
    if _length(request) > MAX_REQUEST:
        return Problem(413, f"The body is larger than {MAX_REQUEST // 1024} KB.", "too_large")
    if workers.running >= AT_ONCE:
        return Problem(429, "As many requests are passed on as may be.", "too_many", headers={"retry-after": "1"})
    deadline = asyncio.get_running_loop().time() + SECONDS
    headers = [*_passed(request.headers.raw, NOT_PASSED), (pcm.SESSION_HEADER.encode(), claim.session.encode())]
    if "content-length" in request.headers:  # else httpx would send it in chunks
        headers.append((b"content-length", str(_length(request)).encode()))
    workers.running += 1
    answer: Answer | None = None
    try:
        async with asyncio.timeout_at(deadline):
            answered = await workers.send(
                claim.worker.url,
                request.method,
                _target(request),
                headers,
                _body(request) if _has_body(request) else None,
            )
        answer = _Passed(api, answered, deadline)
        return answer
    except TooLarge:
        return Problem(413, f"The body is larger than {MAX_REQUEST // 1024} KB.", "too_large")
    except ClientDisconnect:
        return Problem(400, "The connection was closed before the body's end.", "disconnected")
    except TimeoutError:
        return Problem(504, f"The bot did not answer within {SECONDS:g} s.", "slow")
    except Exception as error:  # of httpx, and of the layers below it
        log.warning("a request was not passed on", session=claim.session, error=type(error).__name__)
        return Problem(502, f"The bot's worker did not answer ({type(error).__name__}).", "no_answer")
    finally:
        if answer is None:
            workers.running -= 1


async def _worker_of(api: Api, asked: Asked) -> Claim | Problem:
    """Find the worker that serves the session, on whatever node it is."""
    session_id = asked.path["session_id"]
    facts = await find_session(api.sessions, asked.path["agent"], session_id)
    if isinstance(facts, Problem):
        return facts
    if facts.over:
        return NO_SESSION
    if asked.path["path"].strip("/") in IMAGES_OWN:
        return Problem(404, "This path is the worker's own, and no route of the bot.", "not_found")
    claim = await _claim(api, session_id)
    if claim is None or claim.worker is None:
        again = {"retry-after": "1"}
        return Problem(409, "The session has no bot at the moment.", "no_worker", headers=again)
    if not claim.static:
        detail = (
            "This session's worker was started by the gateway, and serves its call only: routes of a bot are those of"
        )
        return Problem(501, f"{detail} workers that are listed by their URLs.", "not_served")
    return claim


async def _claim(api: Api, session_id: str) -> Claim | None:
    live = api.sessions.running(session_id)
    try:
        found = await api.node.registry.get_claim(session_id, None)
    except RegistryUnavailable:
        if live is None:
            raise
        return live.claim
    return found if isinstance(found, Claim) else None


def _length(request: Request) -> int:
    """The length that the request says that its body has, 0 if it says none."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else 0


def _has_body(request: Request) -> bool:
    return _length(request) > 0 or "transfer-encoding" in request.headers


async def _body(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_REQUEST:
            raise TooLarge
        if chunk:
            yield chunk


def _target(request: Request) -> bytes:
    """Return path and query for the worker, as they came: a percent-encoded slash is none."""
    raw: bytes = request.scope["raw_path"]
    *_, path = raw.partition(b"/v1/public/")[2].split(b"/", 3)
    query: bytes = request.scope["query_string"]
    return b"/" + path + (b"?" + query if query else b"")


def _passed(headers: Iterable[tuple[bytes, bytes]], without: Collection[str]) -> Iterable[tuple[bytes, bytes]]:
    """Leave out those that are not passed on, and those that `Connection` names."""
    lines = [(name.decode("latin-1").lower(), name, value) for name, value in headers]
    named = {
        one.strip().lower()
        for name, _, value in lines
        if name == "connection"
        for one in value.decode("latin-1").split(",")
    }
    return [(name.lower(), value) for lower, name, value in lines if lower not in without and lower not in named]


class _Passed(Response):
    """The worker's answer on its way. One that breaks off is broken off here, too: its end is not said."""

    def __init__(self, api: Api, answer: httpx.Response, deadline: float) -> None:
        self.status_code = answer.status_code
        self.background = None
        self._answer, self._deadline, self._workers = answer, deadline, api.node.worker_http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _passed(self._answer.headers.raw, NOT_RETURNED)
        size = 0
        try:
            async with asyncio.timeout_at(self._deadline):
                await send({"type": "http.response.start", "status": self.status_code, "headers": list(headers)})
                async for chunk in self._answer.aiter_raw():
                    size += len(chunk)
                    if size > MAX_ANSWER:
                        log.warning("a bot's answer was cut off: it is too large", status=self.status_code)
                        return
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception as error:
            log.warning("a bot's answer broke off", status=self.status_code, error=type(error).__name__)
        finally:
            self._workers.running -= 1
            await self._answer.aclose()
