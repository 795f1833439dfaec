"""The public API of a bot, one module on four carriers, observed from the carrier's side of the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.carriers import ALAW, CARRIERS, L16_16K, NAMES, ULAW, Call, Carrier, Codec, Phone, Plivo, Telnyx
from tests.acceptance.program import CarrierRest, Gateway, service, settings
from tests.kit.bots import notes_of, place_bot
from tests.kit.waiting import SECONDS, until

LEAD = 0.2  # playout_lead_ms
NOISE = 5.0  # what a busy machine may add: far less than the thirty seconds of a clear that does nothing


@pytest.fixture(scope="module")
def rest() -> Iterator[CarrierRest]:
    server = CarrierRest()
    yield server
    server.close()


@pytest.fixture(scope="module")
def bot(folder: Path) -> Path:
    return place_bot("same", folder)


@pytest.fixture(scope="module")
def gateway(folder: Path, bot: Path, rest: CarrierRest) -> Iterator[Gateway]:
    plain = service("same.acme", bot, default=True, min_warm=8)
    wide = service("wide.acme", bot, min_warm=2, codec="l16", sample_rate=24000)
    with Gateway.of(folder, settings(plain, wide, api_url=rest.url)) as running:
        yield running
        assert running.alive()
        running.assert_clean()


class TelnyxOfEurope(Telnyx):
    """The leg is A-law inwards; outwards it is what the XML asked for."""

    codec = ALAW


class PlivoWide(Plivo):
    codec = L16_16K


LEGS: dict[str, tuple[type[Carrier], str, Codec]] = {
    **{name: (CARRIERS[name], "", CARRIERS[name].codec) for name in NAMES},
    "telnyx-pcma": (TelnyxOfEurope, "", ULAW),
    "plivo-l16": (PlivoWide, "serviceHost=wide.acme", L16_16K),
}


class Conversation:
    """A phone in a call with the bot, and the bot's notes of this call."""

    def __init__(self, phone: Phone, call: Call, bot: Path) -> None:
        self.phone, self.call, self.bot = phone, call, bot

    def notes(self, what: str) -> list[dict[str, Any]]:
        return [one for one in notes_of(self.bot) if one["call"] == self.call.id and one["what"] == what]

    async def noted(self, what: str, count: int = 1, timeout: float = SECONDS, **having: Any) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [one for one in self.notes(what) if having.items() <= one.items()]

        def others() -> str:
            return f"the bot noted no {what} {having}: {self.notes(what)}; closed {self.phone.close_code}"

        await until(lambda: len(found()) >= count, timeout, others)
        return found()[count - 1]


async def converse(
    leg: str, gateway: Gateway, bot: Path, run: Callable[[Conversation], Awaitable[None]], query: str = ""
) -> None:
    kind, service_host, codec = LEGS[leg]
    carrier = kind(gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call, "&".join(filter(None, (service_host, query))))
    assert answer.stream, answer.response.text
    async with carrier.phone(call, answer, codec) as phone:
        talk = Conversation(phone, call, bot)
        phone.codec, sending = carrier.codec, codec
        await phone.talk(0.2)
        phone.codec = sending
        await talk.noted("audio")
        await run(talk)


async def on_all(run: Callable[[str], Awaitable[None]], legs: tuple[str, ...] = tuple(LEGS)) -> None:
    """On all legs at once; one failure names every leg that failed."""
    results = await asyncio.gather(*(run(leg) for leg in legs), return_exceptions=True)
    failed = [
        f"{leg}: {result!r}" for leg, result in zip(legs, results, strict=True) if isinstance(result, BaseException)
    ]
    assert not failed, "\n".join(failed)


async def test_who_calls_and_with_what(gateway: Gateway, bot: Path) -> None:
    async def run(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            note = await one.noted("start")
            exotel = leg == "exotel"
            assert note["sender"] == ("+915550100009" if exotel else "+15550100002")
            assert note["wire_from"] == note["sender"]
            assert note["to"] == ("+915550100010" if exotel else "+15550100004")
            if not exotel:
                assert note["body"]["campaign"] == "spring"
                assert "serviceHost" not in note["body"]
            assert note["carrier"] == leg.partition("-")[0]
            assert note["encoding"] == {"telnyx-pcma": "alaw", "plivo-l16": "l16", "exotel": "l16"}.get(leg, "mulaw")
            assert note["rate"] == (16000 if leg == "plivo-l16" else 8000)
            audio = await one.noted("audio")
            assert audio["rate"] == (24000 if leg == "plivo-l16" else 16000)
            await one.phone.hang_up()
            await one.noted("end")

        await converse(leg, gateway, bot, talk, "campaign=spring")

    await on_all(run)


async def test_digits_play_and_marks(gateway: Gateway, bot: Path) -> None:
    async def run(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            phone = one.phone
            for digit in "0*A":
                await phone.press(digit)
                await one.noted("dtmf", digit=digit)
            await phone.press("1")
            await one.noted("mark", name="after")
            assert [(mark["name"], mark["played"]) for mark in one.notes("mark")] == [("before", True), ("after", True)]
            assert 0.8 < phone.loud_seconds() < 1, phone.loud_seconds()  # the rest of a sine is near zero
            whole_seconds(phone, 1)
            before = phone.seconds()
            await phone.press("4")
            await one.noted("mark", name="other rate")
            assert 0.98 <= phone.seconds() - before <= 1.35, phone.seconds() - before
            assert not phone.cleared

        await converse(leg, gateway, bot, talk)

    await on_all(run)


async def test_digits_to_the_far_end(gateway: Gateway, bot: Path) -> None:
    """On the wire where it can; else by the XML that follows the stream, the same bot going on; else refused."""

    async def run(leg: str) -> None:
        carrier = LEGS[leg][0](gateway.url)
        call = carrier.new_call()
        answer = await carrier.voice(call, LEGS[leg][1])
        async with carrier.phone(call, answer) as phone:
            one = Conversation(phone, call, bot)
            await phone.talk(0.2)
            await one.noted("audio")
            await phone.press("5")
            if leg.startswith("plivo"):
                await phone.until(lambda: phone.dialled == "12#", complain="no sendDTMF")
                return
            if leg == "exotel":
                await one.noted("status", status="refused")
                return
            assert await phone.ends() == 1000
        follow = await carrier.resume(answer, call)
        assert follow.xml[0].tag == "Play", follow.response.text
        assert follow.xml[0].get("digits") == "12#", follow.response.text
        if not follow.stream:
            follow = await carrier.resume(follow, call)
        async with carrier.phone(call, follow) as phone:
            again = Conversation(phone, call, bot)
            await again.noted("status", status="reattached")
            assert len(again.notes("start")) == 1

    await on_all(run)


def whole_seconds(phone: Phone, seconds: int) -> None:
    """Every step of the staircase is there once, in order, at its level."""
    audio = phone.audio()
    rate = phone.codec.rate
    first = int(np.argmax(np.abs(audio) > 400))
    for second in range(seconds):
        part = audio[first + second * rate + rate // 10 : first + (second + 1) * rate - rate // 10].astype(float)
        level = float(np.sqrt(2 * np.mean(part**2))) if len(part) else 0.0
        wanted = 2000 + 600 * second
        assert 0.9 < level / wanted < 1.1, f"second {second}: level {level:.0f} instead of {wanted}"


async def test_thirty_seconds_at_once(gateway: Gateway, bot: Path) -> None:
    """Heard whole and never far ahead of the ear; the same cut by a clear after one second. All legs at once."""

    async def whole(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            phone, now = one.phone, asyncio.get_running_loop().time
            # Of an ear that has listened from here on, not from the first frame: that one may be late by our own fault.
            ahead, before, asked = 0.0, phone.seconds(), now()
            await phone.press("2")
            done = asyncio.create_task(one.noted("mark", name="end", timeout=40))
            while not done.done():
                ahead = max(ahead, phone.seconds() - before - (now() - asked))
                await asyncio.sleep(0.02)
            assert (await done)["played"] is True
            assert 30.0 <= phone.seconds() <= 30.3 + phone.carrier.chunk, phone.seconds()
            whole_seconds(phone, 30)
            chunk = 0.2 if leg == "exotel" else 0.02
            assert ahead <= LEAD + chunk + 0.25, f"{ahead:.2f} s sent ahead of the ear"

        await converse(leg, gateway, bot, talk)

    async def cut(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            phone = one.phone
            before, silent = len(phone.cleared), phone.seconds()  # a slow start has hold audio, cleared for the bot
            await phone.press("3")
            cleared = (await one.noted("clear"))["at"]
            await one.noted("mark", name="m-after")
            clears = phone.cleared[before:]
            assert len(clears) == 1, [at - cleared for at in clears]
            chunk = 0.2 if leg == "exotel" else 0.0
            # as if the carrier's clear did nothing: all that was ever sent is over by then
            end = 0.0
            for at, payload in phone.heard:
                end = max(end, at) + len(payload) / phone.codec.width / phone.codec.rate
            assert end - cleared <= LEAD + 0.04 + chunk + NOISE, f"{end - cleared:.2f} s after the clear"
            assert clears[0] - cleared < 0.04 + NOISE
            marks = {mark["name"]: mark["played"] for mark in one.notes("mark")}
            assert marks == {"m0": True, "m30": False, "m-after": True}
            assert len(one.notes("mark")) == 3
            heard = phone.seconds() - silent
            assert 0.9 < heard < 1.9 + NOISE, heard

        await converse(leg, gateway, bot, talk)

    await asyncio.gather(on_all(whole), on_all(cut))


async def test_the_bot_hangs_up(gateway: Gateway, bot: Path) -> None:
    """After its last sentence: drained, then the socket closed 1000."""

    async def run(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            phone = one.phone
            await phone.press("#")
            assert await phone.ends() == 1000
            whole_seconds(phone, 1)
            begin = phone.heard[0][0]
            assert asyncio.get_running_loop().time() - begin > 0.9, "the last sentence was cut"
            await one.noted("end")

        await converse(leg, gateway, bot, talk)

    await on_all(run)


async def test_the_caller_hangs_up(gateway: Gateway, bot: Path, rest: CarrierRest) -> None:
    """Also in the middle of the bot's sentence: it is told at once, and nobody is hung up by REST."""

    async def run(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            await one.phone.press("2")
            await one.phone.until(lambda: one.phone.loud_seconds() > 0.1, complain="nothing played")
            await one.phone.hang_up()
            await one.noted("end")  # while it would have played for thirty seconds
            assert not [path for _, path, _ in rest.asked if one.call.id in path]
            assert [mark["played"] for mark in one.notes("mark")] in ([], [False])

        await converse(leg, gateway, bot, talk)

    await on_all(run)


async def test_the_bot_hangs_up_by_rest(gateway: Gateway, bot: Path, rest: CarrierRest) -> None:
    """The first line is the carrier's REST API where it can hang up; the XML behind the stream is the second."""

    async def run(leg: str) -> None:
        async def talk(one: Conversation) -> None:
            await one.phone.press("#")
            assert await one.phone.ends() == 1000
            asked = [(method, path) for method, path, _ in rest.asked]
            if leg == "twilio":
                assert ("POST", f"/2010-04-01/Accounts/{one.call.account}/Calls/{one.call.id}.json") in asked, asked
            elif leg == "telnyx":
                assert any(method == "POST" and path.endswith("/actions/hangup") for method, path in asked), asked
            else:
                assert any(method == "DELETE" and f"/Call/{one.call.id}/" in path for method, path in asked), asked

        await converse(leg, gateway, bot, talk)

    await on_all(run, ("twilio", "telnyx", "plivo"))
