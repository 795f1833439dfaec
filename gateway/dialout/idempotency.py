"""Idempotency-Key: the same key gives the first answer, also at once and on two nodes.

draft-ietf-httpapi-idempotency-key-header. The key belongs to the API key that it came with. An answer that says when
to come again (429, 503, 502 of a carrier with too many requests) gives way to the next request with the key: a retry is
what it wants, and nothing was dialled.

The first request holds the key by a lease, and notes there that it begins before it writes or sends anything of its
call. If its gateway dies, what it has come to decides:

    not begun | the next request takes the key over, as if it were the first. One that was only suspended finds that
              | it must not begin any more, so no call is dialled twice
    begun     | the next request is answered with what is known of the call, or where to look for it
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import orjson

from gateway.dialout.request import Begin, Dialled, DialRefusal, DialRequest, DialResult, from_dict, to_dict
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.sessions.worker_search import ask_until_answered

REMEMBERED = 24 * 3600.0
"""Seconds that an answer is kept."""
LEASE = 15.0
"""A request without an answer that has not renewed its lease for so long is one of a node that is dead."""
LOOK_AGAIN = 0.1
"""Seconds between two looks for the first one's answer."""
WAIT_FOR_FIRST = 25.0
"""Seconds that the first one may take: its worker starts, and the carrier answers late."""
REUSED = DialRefusal(422, "key_reused", "Idempotency-Key: it was used before, with another request.", "Idempotency-Key")
IN_PROGRESS = DialRefusal(
    409,
    "in_progress",
    "Idempotency-Key: the first request with it has not been answered yet.",
    "Idempotency-Key",
    retry_after=1.0,
)

Dial: TypeAlias = Callable[[Begin], Awaitable[DialResult]]
"""Dials. It asks before it begins, see `Begin`."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a key. until: the end of its lease, unix seconds. begun: its call may have been dialled.

    answer: None while the first request is in progress.
    """

    session: str
    digest: str
    until: float
    begun: bool = False
    answer: DialResult | None = None

    def write(self) -> str:
        answer = to_dict(self.answer) if self.answer is not None else None
        return orjson.dumps([self.session, self.digest, self.until, self.begun, answer]).decode()

    def is_dead(self, now: float) -> bool:
        """True if its node is gone, and its answer with it."""
        return self.answer is None and self.until <= now


def _read(text: str) -> _Known | None:
    try:
        fields: Any = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
    match fields:
        case [str(session), str(digest), int() | float() as until, bool(begun), answer]:
            return _Known(session, digest, until, begun, from_dict(answer) if isinstance(answer, dict) else None)
    return None


async def once(node: Node, request: DialRequest, session: str, dial: Dial) -> DialResult:
    """Dial for this session, or return what the first request of this key was answered.

    Raises RegistryUnavailable.
    """
    key = _Key(node, request, session)
    time = asyncio.get_running_loop().time
    until = time() + WAIT_FOR_FIRST
    known, now = await key.take(retry=True)
    while True:
        if known.digest != key.digest:
            return REUSED
        if known.session == session:
            answer = await key.dial(dial)
            if answer is not None:
                return answer
        elif known.answer is not None:
            return known.answer
        elif known.is_dead(now) or time() >= until:
            return await _tell(node, known, dead=known.is_dead(now))
        await asyncio.sleep(LOOK_AGAIN)
        known, now = await key.take(retry=False)


async def first_answer(node: Node, request: DialRequest) -> DialResult | None:
    """Return what the first request of this key was answered, for a node that dials nothing now; None: nothing is kept.

    Raises RegistryUnavailable.
    """
    key = _Key(node, request, "")
    known = await key.look()
    if known is None:
        return None
    if known.digest != key.digest:
        return REUSED
    answer = known.answer
    return None if isinstance(answer, DialRefusal) and answer.retry_after is not None else answer


async def _tell(node: Node, known: _Known, *, dead: bool) -> DialResult:
    """Return what is known of the call of a request that has no answer."""
    facts = await node.registry.find(known.session) if known.begun else None
    if facts is not None:
        return Dialled(known.session, facts.call_id or None, facts.status or "queued")
    if not dead:
        return IN_PROGRESS
    why = (
        "Idempotency-Key: the gateway that had the first request with it has died, and may have dialled: look at "
        f"GET /v1/calls/{known.session}, and take another key to dial again."
    )
    return DialRefusal(409, "outcome_unknown", why, "Idempotency-Key")


class _Key:
    """A key, as one request uses it. Every method raises RegistryUnavailable, but `dial`."""

    def __init__(self, node: Node, request: DialRequest, session: str) -> None:
        name = f"{request.key_name}\n{request.idempotency_key}".encode()
        self._node = node
        self._name = f"dial:{hashlib.sha256(name).hexdigest()[:32]}"
        self._session = session
        self.digest = _digest(request)
        self._overtaken = False

    async def take(self, *, retry: bool) -> tuple[_Known, float]:
        """Have the key if it is free; return who has it, and the registry's time.

        retry: it is free, too, where it was answered that one should come again.
        """

        def change(text: str, now: float) -> tuple[str, tuple[_Known, float]]:
            known = _read(text)
            if known is None or (known.is_dead(now) and not known.begun) or (retry and self._may_retry(known)):
                known = _Known(self._session, self.digest, now + LEASE)
            return known.write(), (known, now)

        return await self._node.registry.change(self._name, REMEMBERED, change)

    async def look(self) -> _Known | None:
        """Return who has the key, and take nothing."""
        return await self._node.registry.change(self._name, REMEMBERED, lambda text, _: (text, _read(text)))

    def _may_retry(self, known: _Known) -> bool:
        answer = known.answer
        return known.digest == self.digest and isinstance(answer, DialRefusal) and answer.retry_after is not None

    async def dial(self, dial: Dial) -> DialResult | None:
        """Dial, as the one who has the key. None: another request has taken it over, and nothing was dialled."""
        over = asyncio.Event()
        self._node.spawn(self._keep(over), f"keep the idempotency key of {self._session}")
        try:
            answer = await dial(self._begin)
        finally:
            over.set()
        if self._overtaken:
            return None
        try:
            await self._change(answer=answer)
        except RegistryUnavailable:
            again = partial(self._change, answer=answer)
            self._node.spawn(ask_until_answered(self._node, again), f"keep the answer of {self._session}")
        return answer

    async def _begin(self) -> bool:
        self._overtaken = not await self._change(begun=True)
        return not self._overtaken

    async def _keep(self, over: asyncio.Event) -> None:
        """Renew the lease until there is an answer, or another request has the key."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE / 3):
                    await over.wait()
                return
            with suppress(RegistryUnavailable):
                if not await self._change():
                    return

    async def _change(self, *, begun: bool = False, answer: DialResult | None = None) -> bool:
        """Renew the lease, and note what is new. False: another request has the key."""

        def change(text: str, now: float) -> tuple[str, bool]:
            known = _read(text) or _Known(self._session, self.digest, 0.0)  # the registry may have come back empty
            if known.session != self._session:
                return text, False
            known = replace(known, until=now + LEASE, begun=begun or known.begun, answer=answer or known.answer)
            return known.write(), True

        return await self._node.registry.change(self._name, REMEMBERED, change)


def _digest(request: DialRequest) -> str:
    """What a repeated request must say again."""
    said = [
        request.carrier,
        request.to,
        request.from_number,
        request.service_host,
        dict(request.body),
        request.machine_detection,
        request.max_call_seconds,
    ]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
