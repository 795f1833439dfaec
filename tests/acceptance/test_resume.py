"""A session outlives its stream: the carrier's media server dies, the XML leads to /resume, the same bot goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.carriers import CARRIERS, NAMES, Answer, Call, Carrier, Phone
from tests.acceptance.program import Gateway, service, settings
from tests.kit.bots import noted
from tests.kit.waiting import until

WITH_XML = ("twilio", "telnyx", "plivo")


@pytest.fixture(scope="module")
def gateway(folder: Path, echo_bot: Path) -> Iterator[Gateway]:
    with Gateway.of(folder, settings(service("echo.acme", echo_bot, default=True, min_warm=4))) as running:
        yield running
        assert running.alive()
        running.assert_clean()


async def talking(phone: Phone, seconds: float = 0.3) -> None:
    await phone.hears_echo("in the call", seconds)


async def dropped(carrier: Carrier, call: Call, answer: Answer, seconds: float) -> None:
    """A call that talks for a while, then its socket is gone without a close frame."""
    async with carrier.phone(call, answer) as phone:
        await talking(phone)
        await phone.talk(seconds, paced=True)
        phone.drop()


async def lost(gateway: Gateway, name: str, seconds: float) -> tuple[Carrier, Call, Answer]:
    """A new call, dropped like that."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    await dropped(carrier, call, answer, seconds)
    return carrier, call, answer


async def whole(carrier: Carrier, call: Call, answer: Answer) -> None:
    """It talks, and hangs up."""
    async with carrier.phone(call, answer) as phone:
        await talking(phone)
        await phone.hang_up()


async def each(work: Any, names: tuple[str, ...] = NAMES) -> None:
    results = await asyncio.gather(*(work(name) for name in names), return_exceptions=True)
    failed = [
        f"{name}: {result!r}" for name, result in zip(names, results, strict=True) if isinstance(result, BaseException)
    ]
    assert not failed, "\n".join(failed)


async def test_the_same_bot_goes_on(gateway: Gateway, echo_bot: Path) -> None:
    """Twice in one call: a new stream id each time, the same process, told ``reattached``; digits still reach it."""

    async def run(name: str) -> None:
        carrier = CARRIERS[name](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call, "color=red")
        for drop in range(2):
            begin = answer
            await dropped(carrier, call, begin, 1.0)
            answer = await carrier.resume(begin, call)
            assert answer.stream, answer.response.text
            assert answer.stream != begin.stream
            if name != "exotel":
                assert answer.resume.startswith(gateway.public_url), answer.response.text
                assert answer.resume != begin.resume, "the resume URL carries the attempt"
            again = await carrier.resume(begin, call)
            assert again.response.content == answer.response.content, "a repeated webhook gets the same bytes"
            async with carrier.phone(call, answer) as phone:
                notes = await noted(echo_bot, call.id, "status", drop + 1)
                await talking(phone)
                phone.drop()
            answer = await carrier.resume(answer, call)
        async with carrier.phone(call, answer) as phone:
            await talking(phone)
            await phone.press("7")
            await noted(echo_bot, call.id, "dtmf")
            await phone.hang_up()
        notes = await noted(echo_bot, call.id, "end")
        statuses = [one["status"] for one in notes if one["what"] == "status"]
        assert set(statuses) == {"reattached"}, statuses
        assert len({one["pid"] for one in notes}) == 1, "another bot took the call"
        assert sum(one["what"] == "start" for one in notes) == 1

    async def short(name: str) -> None:
        """One drop only: what must hold on every carrier."""
        carrier, call, answer = await lost(gateway, name, 1.0)
        answer = await carrier.resume(answer, call)
        assert answer.stream, answer.response.text
        await whole(carrier, call, answer)
        notes = await noted(echo_bot, call.id, "end")
        assert [one["status"] for one in notes if one["what"] == "status"] == ["reattached"]
        assert len({one["pid"] for one in notes}) == 1

    await asyncio.gather(each(short), each(run))


async def reasons(gateway: Gateway, since: int, calls: int) -> set[str]:
    """Why the sessions of so many calls ended, of which line `since` and those behind it tell."""

    def ended() -> list[str]:
        return [one["reason"] for one in gateway.records(since) if one.get("event") == "session ended"]

    await until(lambda: len(ended()) >= calls, complain=lambda: f"{calls} sessions have ended: {ended()}")
    return set(ended())


async def test_spent_token_after_the_loss(gateway: Gateway, echo_bot: Path) -> None:
    """A carrier that reconnects by itself, with the same URL, to the live session whose stream is gone."""

    async def run(name: str) -> None:
        carrier, call, answer = await lost(gateway, name, 0.2)
        await whole(carrier, call, answer)
        notes = await noted(echo_bot, call.id, "end")
        assert len({one["pid"] for one in notes}) == 1

    await each(run)


async def test_call_comes_back_to_voice(gateway: Gateway, echo_bot: Path) -> None:
    """Confirmed once: a new attempt, another URL."""

    async def run(name: str) -> None:
        carrier, call, answer = await lost(gateway, name, 0.2)
        second = await carrier.voice(call, **({} if name == "exotel" else {"CallStatus": "in-progress"}))
        assert second.stream and second.stream != answer.stream, second.response.text
        await whole(carrier, call, second)
        await noted(echo_bot, call.id, "end")

    await each(run)


async def test_orderly_end_then_a_late_resume(gateway: Gateway, echo_bot: Path) -> None:
    """Taken for a hang-up: the bot gets stop at once. Yet the call lives: it is attached again."""

    async def run(name: str) -> None:
        carrier = CARRIERS[name](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        await whole(carrier, call, answer)
        await noted(echo_bot, call.id, "end")
        await asyncio.sleep(0.2)
        late = await carrier.resume(answer, call)
        assert late.stream, late.response.text
        await whole(carrier, call, late)

    since = gateway.fence()
    await each(run, WITH_XML)
    assert await reasons(gateway, since, 2 * len(WITH_XML)) == {"caller_hangup"}


async def test_after_the_bot_has_hung_up(gateway: Gateway) -> None:
    """/resume answers Hangup, as often as it is asked; Exotel goes on in its flow."""

    async def run(name: str) -> None:
        carrier = CARRIERS[name](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call)
        async with carrier.phone(call, answer) as phone:
            await talking(phone)
            await phone.press("#")
            assert await phone.ends() == 1000
        if name == "exotel":
            response = await carrier.get("resume", call)  # type: ignore[attr-defined]
            assert response.status_code == 200
            return
        for _ in range(2):
            late = await carrier.resume(answer, call)
            assert [child.tag for child in late.xml] == ["Hangup"], late.response.text
        back = await carrier.voice(call)
        assert not back.stream, back.response.text

    await each(run)


async def test_the_caller_is_gone_for_good(gateway: Gateway, echo_bot: Path) -> None:
    """Dropped, then the carrier's status says completed: the bot does not wait its ten seconds."""

    async def run(name: str) -> None:
        carrier, call, _ = await lost(gateway, name, 0.1)
        response = await carrier.status(call)  # type: ignore[attr-defined]
        assert response.status_code == 200
        await noted(echo_bot, call.id, "end")

    since = gateway.fence()
    await each(run)
    assert await reasons(gateway, since, len(NAMES)) == {"caller_hangup"}


async def test_unknown_session(gateway: Gateway, folder: Path, echo_bot: Path) -> None:
    """A node that never heard of it, same secret: attached once; that attempt, on a third node: Hangup."""
    config = settings(service("echo.acme", echo_bot, default=True, min_warm=2))
    loop = asyncio.get_running_loop()
    second = loop.run_in_executor(None, lambda: Gateway.of(folder, config))
    third = loop.run_in_executor(None, lambda: Gateway.of(folder, config.replace("\n", "\n# third\n", 1)))
    with await second as b, await third as c:

        async def run(name: str) -> None:
            carrier = CARRIERS[name](gateway.url)
            call = carrier.new_call()
            answer = await carrier.voice(call)
            there = CARRIERS[name](b.url)
            moved = Answer(answer.response, resume=answer.resume.replace(gateway.url, b.url))
            resumed = await there.resume(moved, call)
            assert resumed.stream.startswith(b.url.replace("http", "ws")), resumed.response.text
            async with there.phone(call, resumed) as phone:
                await talking(phone)
                phone.drop()
            third = CARRIERS[name](c.url)
            moved = Answer(resumed.response, resume=resumed.resume.replace(b.url, c.url))
            last = await third.resume(moved, call)
            assert [child.tag for child in last.xml] == ["Hangup"], last.response.text

        await each(run, WITH_XML)
        b.assert_clean()
        c.assert_clean()


async def test_resume_of_another_call_s_session(gateway: Gateway) -> None:
    """Honestly signed, but the session in the URL is another call's: it gets none of that call's bot."""

    async def run(name: str) -> None:
        carrier = CARRIERS[name](gateway.url)
        call, other = carrier.new_call(), carrier.new_call()
        answer = await carrier.voice(call)
        async with carrier.phone(call, answer) as phone:
            await talking(phone)
            stolen = await carrier.resume(answer, other)
            if stolen.stream:
                session = answer.resume.partition("session=")[2].partition("&")[0]
                assert session not in stolen.stream, "another call's session"
            await talking(phone)

    await each(run, WITH_XML)
