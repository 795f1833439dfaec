"""Two nodes behind a balancer: the webhook reaches one, the stream the other, and what comes twice comes to both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.acceptance.carriers import CARRIERS, Answer, Call, Carrier, Phone
from tests.cluster.rig import Cluster
from tests.kit.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPENT = 1008


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _clean(cluster: Cluster) -> AsyncIterator[None]:
    """Each test begins with free slots and no notes, and leaves no slot behind."""
    cluster.forget_notes()
    cluster.rest.asked.clear()
    yield
    await cluster.until_used(0)


@dataclass
class Caller:
    """One call, its carrier, and what it was answered last."""

    carrier: Carrier
    call: Call
    answer: Answer

    @property
    def name(self) -> str:
        return self.carrier.name


@asynccontextmanager
async def streams(callers: list[Caller]) -> AsyncIterator[list[Phone]]:
    """The streams of their last answers."""
    async with AsyncExitStack() as stack:
        yield await asyncio.gather(
            *(stack.enter_async_context(one.carrier.phone(one.call, one.answer)) for one in callers)
        )


async def ring(cluster: Cluster, *names: str) -> list[Caller]:
    """One call of each carrier, answered to the voice webhook."""

    async def one(name: str) -> Caller:
        carrier = CARRIERS[name](cluster.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        assert answer.stream, answer.response.text
        return Caller(carrier, call, answer)

    return list(await asyncio.gather(*map(one, names or tuple(CARRIERS))))


async def resume(callers: list[Caller]) -> None:
    """Their streams have ended: ask what is next."""

    async def one(caller: Caller) -> None:
        caller.answer = await caller.carrier.resume(caller.answer, caller.call)

    await asyncio.gather(*map(one, callers))


async def each(phones: list[Phone], do: Callable[[Phone], Awaitable[object]]) -> None:
    await asyncio.gather(*map(do, phones))


async def talk(phones: list[Phone]) -> None:
    await each(phones, lambda phone: phone.hears_echo("in the call", 0.3))


async def hang_up(phones: list[Phone]) -> None:
    await each(phones, lambda phone: phone.hang_up())


def bots(cluster: Cluster, caller: Caller) -> list[int]:
    """The pids that have served this call."""
    return [n["pid"] for n in cluster.notes() if n["call"] == caller.call.id and n["what"] == "start"]


def statuses(cluster: Cluster, caller: Caller) -> list[str]:
    return [n["status"] for n in cluster.notes() if n["call"] == caller.call.id and n["what"] == "status"]


async def test_duplicate_webhooks_on_two_nodes(cluster: Cluster) -> None:
    """At once, one to each node: the same bytes, one claim."""
    before = {name: backend.served for name, backend in cluster.balancer.backends.items()}
    for name in CARRIERS:
        carrier = CARRIERS[name](cluster.url)
        call = carrier.new_call()
        first, second = await asyncio.gather(carrier.voice(call), carrier.voice(call))
        assert first.stream, first.response.text
        assert first.response.content == second.response.content
        async with carrier.phone(call, first) as phone:
            await talk([phone])
            assert (await cluster.slots()).used == 1
            await phone.hang_up()
        await cluster.until_used(0)
    asked = [backend.served - before[name] for name, backend in cluster.balancer.backends.items()]
    assert min(asked) >= len(CARRIERS), f"both nodes were asked: {asked}"


async def test_stream_on_a_node_that_never_saw_the_webhook(cluster: Cluster) -> None:
    with cluster.on("a"):
        callers = await ring(cluster)
    with cluster.on("b"):
        async with streams(callers) as phones:
            await talk(phones)
            await hang_up(phones)
    assert all(len(bots(cluster, caller)) == 1 for caller in callers)


async def test_token_replayed_on_the_other_node(cluster: Cluster) -> None:
    """While its call talks: closed, and the honest stream does not notice."""
    with cluster.on("a"):
        callers = await ring(cluster)
        async with streams(callers) as phones:
            await talk(phones)
            with cluster.on("b"):
                async with streams(callers) as thieves:
                    await each(thieves, lambda phone: phone.ends())
                    assert [phone.close_code for phone in thieves] == [SPENT] * len(thieves)
            await talk(phones)
            assert (await cluster.slots()).used == len(callers)
            await hang_up(phones)


async def test_resume_after_we_ended_it(cluster: Cluster) -> None:
    """The bot hung up on one node; the other answers Hangup, as often as it is asked."""
    with cluster.on("a"):
        callers = await ring(cluster)
        async with streams(callers) as phones:
            await talk(phones)
            await each(phones, lambda phone: phone.press("#"))
            await each(phones, lambda phone: phone.ends())
    with cluster.on("b"):
        for caller in callers:
            if caller.name == "exotel":  # the flow goes on behind its Passthru
                response = await caller.carrier.get("resume", caller.call)  # type: ignore[attr-defined]
                assert response.status_code == 200
                continue
            for _ in range(2):
                late = await caller.carrier.resume(caller.answer, caller.call)
                assert [child.tag for child in late.xml] == ["Hangup"], late.response.text


async def test_carrier_reconnects_while_we_resume(cluster: Cluster) -> None:
    """It dials the old URL again on one node as it asks for what is next on the other: one stream is served in the end,
    by the bot that was there.
    """
    with cluster.on("a"):
        callers = await ring(cluster)
        async with streams(callers) as phones:
            await talk(phones)
            await each(phones, _drop)
        old = [Caller(c.carrier, c.call, c.answer) for c in callers]
        with cluster.on("b"):
            await resume(callers)
        async with streams(old) as reconnected:
            await talk(reconnected)
            with cluster.on("b"):
                await _until_streaming(callers)
            await each(reconnected, lambda phone: phone.ends())
    for caller in callers:
        assert len(bots(cluster, caller)) == 1, cluster.notes()


async def test_older_stream_after_a_newer(cluster: Cluster) -> None:
    """The stream that /resume asked for is on node b when the old URL comes to a, and to b: refused, and no harm."""
    with cluster.on("a"):
        callers = await ring(cluster)
        async with streams(callers) as phones:
            await talk(phones)
            await each(phones, _drop)
    old = [Caller(c.carrier, c.call, c.answer) for c in callers]
    with cluster.on("b"):
        await resume(callers)
        async with streams(callers) as phones:
            await talk(phones)
            for node in ("a", "b"):
                with cluster.on(node):
                    async with streams(old) as late:
                        await each(late, lambda phone: phone.ends())
                        assert [phone.close_code for phone in late] == [SPENT] * len(late)
            await talk(phones)
            await hang_up(phones)
    for caller in callers:
        assert statuses(cluster, caller) == ["reattached"]
        assert len(bots(cluster, caller)) == 1


async def test_newer_stream_while_the_older_lives(cluster: Cluster) -> None:
    """A second attempt on node b while the first one's stream on a is open, as its node has not heard of its end: the
    newer wins, the older is closed, and its node hangs nobody up.
    """
    with cluster.on("a"):
        callers = await ring(cluster, "twilio", "telnyx", "plivo")
        async with streams(callers) as older:
            await talk(older)
            with cluster.on("b"):
                await resume(callers)
                async with streams(callers) as newer:
                    await talk(newer)
                    await each(older, lambda phone: phone.ends())
                    await talk(newer)
                    assert (await cluster.slots()).used == len(callers)
                    await hang_up(newer)
    for caller in callers:
        assert len(bots(cluster, caller)) == 1
    assert not cluster.rest.ordered, "a superseded node has hung up on its caller"


async def test_transfer_made_elsewhere_is_never_hung_up(cluster: Cluster) -> None:
    """The carrier ends the stream first, as when a bot has moved the call by its own REST: the caller may be talking to
    a human. Nobody hangs up, on either node, at once or when the session wraps up.
    """
    with cluster.on("a"):
        callers = await ring(cluster, "twilio", "telnyx", "plivo")
    with cluster.on("b"):
        async with streams(callers) as phones:
            await talk(phones)
            await hang_up(phones)  # stop, and close 1000: all that there is to see of a transfer
    await cluster.noted("end", len(callers))
    await cluster.until_used(0)
    assert not cluster.rest.ordered
    await asyncio.gather(*(one.carrier.status(one.call) for one in callers))  # type: ignore[attr-defined]
    assert not cluster.rest.ordered


async def _drop(phone: Phone) -> None:
    phone.drop()


async def _until_streaming(callers: list[Caller]) -> None:
    """Obey until each has a stream that talks, as a carrier does whose every stream's end leads to /resume."""

    async def one(caller: Caller) -> None:
        for _ in range(4):
            assert caller.answer.stream, f"{caller.name}: {caller.answer.response.text}"
            async with caller.carrier.phone(caller.call, caller.answer) as phone:
                await phone.talk(0.3)
                await until(
                    lambda phone=phone: phone.close_code is not None or phone.answered_seconds() > 0.2,  # type: ignore[misc]
                    5,
                    lambda: f"{caller.name}: neither closed nor heard",
                )
                if phone.close_code is None:
                    await phone.hang_up()
                    return
            # Telnyx signs the second and the body, not the URL: twice the same body in a second is taken for a replay.
            await asyncio.sleep(1.0)
            caller.answer = await caller.carrier.resume(caller.answer, caller.call)
        raise AssertionError(f"{caller.name}: no stream after four attempts")

    await asyncio.gather(*map(one, callers))
