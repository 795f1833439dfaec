"""A server that lies or is damaged: through the real client nothing is raised but RegistryUnavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.errors import BadAnswer, RegistryUnavailable
from gateway.pool.client import RegistryClient
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.redis.codec import write_facts, write_worker
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Claim, Full, PoolCounts, Queued, SetResult, Stale
from gateway.protocol.workers import Running
from tests.pool.kit import SERVICE, Clock, host, worker
from tests.pool.redis.liar import Liar, lying, resp

WORKER = write_worker(worker("w1"))
CLAIM = ["claim", "h1", WORKER, 1, 7, 1_760_000_000_000, "pcm", "key", 1, 0]
FACTS = write_facts(Facts(session="s1", call_id="CA1", status="answered", created=5.0), {"CA1"})

QUESTIONS: dict[str, tuple[Callable[[Any], Awaitable[Any]], Any, Any]] = {
    # method: how it is asked, what its script may answer, what it may give
    "put_host": (lambda r: r.put_host(host(worker("w1")), [Running("s1", 5, "w1")]), [1, "s1"], bool),
    "beat": (lambda r: r.beat("h1", 1, [worker("w1")]), [1, "s1"], tuple | None),
    "drop_host": (lambda r: r.drop_host("h1", 1), 1, None),
    "drain_host": (lambda r: r.drain_host("h1", 1), 1, None),
    "claim": (lambda r: r.claim(SERVICE, "s1", queue=True), CLAIM, Claim | Queued | Full),
    "confirm": (lambda r: r.confirm("s1", 1), CLAIM, Claim | Stale),
    "get_claim": (lambda r: r.get_claim("s1", 7), CLAIM, Claim | Stale),
    "renew": (lambda r: r.renew({"s1": 7, "s2": 8}), [1, 0], set),
    "release": (lambda r: r.release("s1", 7), 1, None),
    "leave_queue": (lambda r: r.leave_queue(SERVICE, "s1"), 1, None),
    "merge": (lambda r: r.merge("s1", FactEvent(status="ended")), [], Facts),
    "find": (lambda r: r.find("CA1"), FACTS, Facts | None),
    "set_if_absent": (lambda r: r.set_if_absent("k", 1.0, "v"), ["v", 5], SetResult),
    "change": (lambda r: r.change("k", 1.0, lambda text, now: (f"{text}x", now)), [1, "v", 5], float),
    "send": (lambda r: r.send("n1", "hello"), 1, None),
    "receive": (lambda r: r.receive("n1"), 1, list),
    "wait_free": (lambda r: r.wait_free(SERVICE, 0.001), 1, None),
    "slots": (lambda r: r.slots(SERVICE), [2, 1, 1, 0, 0, 0, 1], PoolCounts),
}


class Asker:
    """A node's client of the liar."""

    def __init__(self, liar: Liar) -> None:
        self.liar = liar
        self.clock = Clock()
        self.failures: list[str] = []
        self.registry = RedisRegistry(liar.url, monotonic=self.clock)
        self.client = RegistryClient(self.registry, timeout=30.0, on_failure=self.failures.append)

    async def ask(self, method: str) -> Any:
        """What it is told, or RegistryUnavailable itself. Anything else is raised."""
        question, _, kind = QUESTIONS[method]
        await self.clock.advance(2.0)  # a failure keeps others from asking for a moment
        try:
            answer = await question(self.client)
        except RegistryUnavailable as error:
            return error
        assert answer is None if kind is None else isinstance(answer, kind), f"{method}: {answer!r}"
        return answer


@asynccontextmanager
async def asking():
    async with lying() as liar:
        asker = Asker(liar)
        try:
            yield asker
        finally:
            await asker.client.close()


def truth(method: str) -> Callable[[list[bytes]], bytes]:
    """What a real server might say: a pointer to the service, and the script's answer."""

    def answer(words: list[bytes]) -> bytes:
        if words[0] in (b"EVALSHA", b"EVAL"):
            return resp(QUESTIONS[method][1])
        if b":facts:" in words[1]:
            return resp(FACTS)
        if b":meta" in words[1]:
            return resp("5")
        if b":mailbox:" in words[1]:
            return resp(["hello"])
        return resp(SERVICE)

    return answer


LIES = {
    "nothing": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "an empty text": b"$0\r\n\r\n",
    "a number": b":1\r\n",
    "a negative number": b":-7\r\n",
    "a huge number": b":99999999999999999999999999\r\n",
    "a number of 5,000 digits": b":" + b"9" * 5000 + b"\r\n",
    "no number": b":abc\r\n",
    "NaN": b"$3\r\nnan\r\n",
    "words": b"+OK\r\n",
    "an error": b"-ERR broken\r\n",
    "an error in a list": b"*2\r\n:1\r\n-ERR broken\r\n",
    "a script that is never there": b"-NOSCRIPT no\r\n",
    "bytes that are no UTF-8": b"$4\r\n\xff\xfe\xc3\x28\r\n",
    "such bytes in a list": b"*2\r\n$5\r\nclaim\r\n$2\r\n\xff\xfe\r\n",
    "another protocol": b"%1\r\n+a\r\n:1\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "lists in lists": b"*1\r\n" * 5000 + b":1\r\n",
    "a claim of one word": b"*1\r\n$5\r\nclaim\r\n",
    "a stale of one word": b"*1\r\n$5\r\nstale\r\n",
    "a place that is no number": resp(["queued", "first", 0]),
    "a place without a count": resp(["queued", 1]),
    "a claim of nothing": resp(["claim", *[None] * 9]),
    "a claim of text": resp(["claim", *["x"] * 9]),
    "a claim on a worker that is none": resp([*CLAIM[:2], "[1, 2, 3]", *CLAIM[3:]]),
    "a claim with a huge fence": resp([*CLAIM[:4], 2**62, *CLAIM[5:]]),
    "a claim that never ends": resp([*CLAIM[:5], "inf", *CLAIM[6:]]),
    "JSON of another kind": resp('{"facts": [], "aliases": {}}'),
    "facts with NaN": resp(FACTS.replace("5.0", "NaN")),
    "a list that is cut": b"*10\r\n$5\r\nclaim\r\n$2\r\nh1",
    "a text that is cut": b"$100\r\nsupport",
    "an end": b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("to", ["every command", "scripts"])
async def test_no_lie_raises_anything_but_unavailability(lie, to):
    async with asking() as asker:
        for method in QUESTIONS:
            if to == "scripts":
                told = truth(method)
                asker.liar.answer = lambda words, told=told: lie if words[0].startswith(b"EVAL") else told(words)
            else:
                asker.liar.answer = lambda _: lie
            await asker.ask(method)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lie_at_setup_is_unavailability_too(lie):
    async with asking() as asker:
        asker.liar.answer, asker.liar.lies_at_setup = lambda _: lie, True
        await asker.ask("claim")


async def test_the_truth_is_understood():
    """Else the tests above would test nothing."""
    async with asking() as asker:
        for method in QUESTIONS:
            asker.liar.answer = truth(method)
            assert not isinstance(await asker.ask(method), RegistryUnavailable), method
        assert asker.failures == []


async def test_bad_answers_are_counted_logged_once_and_keep_nobody_from_asking():
    async with asking() as asker:
        with capture_logs() as logs:
            for _ in range(20):
                asker.liar.answer = lambda _: resp("nonsense")
                assert isinstance(await asker.ask("slots"), BadAnswer)
                asker.clock.now -= 2.0  # at once
                asker.liar.answer = truth("slots")
                assert isinstance(await asker.ask("slots"), PoolCounts)
                asker.clock.now -= 2.0
        assert asker.failures == ["bad_answer"] * 20
        [line] = logs
        assert line["log_level"] == "error"
        assert "unexpected answers" in line["event"]


async def test_an_answer_after_a_lie_is_not_taken_for_the_next_question():
    """A server that says more than it was asked: the rest is not the answer to what is asked next."""
    async with asking() as asker:
        asker.liar.answer = lambda _: resp([2, 1, 1, 0, 0, 0, 1]) + resp([9, 9, 9, 9, 9, 9, 9])
        await asker.ask("slots")
        asker.liar.answer = truth("slots")
        await asyncio.sleep(0.01)
        assert await asker.ask("slots") == PoolCounts(2, 1, 1, 0, 0, 0, 1)


async def test_a_webhook_gets_what_there_is_when_the_registry_is_down(gateway):
    for lie in (resp("nonsense"), b"$2\r\n\xff\xfe\r\n", b":abc\r\n", b"*0\r\n"):
        async with asking() as asker:
            asker.liar.answer = lambda _, lie=lie: lie
            gateway.node.registry.registry, memory = asker.registry, gateway.memory
            answer = await gateway.voice()
            gateway.node.registry.registry = memory
            assert answer.status_code == 200
            assert b"<Reject" in answer.content


# Answers that are nearly right.

ODD = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=8),
    st.sampled_from(["claim", "stale", "queued", "full", "pcm", "nan", "inf", "-1", "1e999", WORKER, FACTS]),
    st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3),
)


@st.composite
def nearly_right(draw) -> tuple[str, Any]:
    """A method, and an answer of its script with something changed, cut or added."""
    method = draw(st.sampled_from(sorted(QUESTIONS)))
    right = QUESTIONS[method][1]
    if not isinstance(right, list) or draw(st.booleans()):
        return method, draw(ODD)
    answer = list(right)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(answer)))
        match draw(st.sampled_from(["change", "cut", "add"])):
            case "change" if at < len(answer):
                answer[at] = draw(ODD)
            case "cut":
                answer = answer[:at]
            case _:
                answer.insert(at, draw(ODD))
    return method, answer


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nearly_right(), min_size=1, max_size=12))
def test_answers_that_are_nearly_right(said):
    async def ask() -> None:
        async with asking() as asker:
            for method, lie in said:
                told = truth(method)
                asker.liar.answer = lambda words, lie=lie, told=told: (
                    resp(lie) if words[0].startswith(b"EVAL") else told(words)
                )
                await asker.ask(method)

    with capture_logs():
        asyncio.run(ask())
