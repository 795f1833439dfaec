"""What may come before, as and after ``start``: over the live socket, of each carrier."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.acceptance.carriers import CARRIERS, NAMES, Answer, Call, Carrier, Plivo, Telnyx, Twilio
from tests.acceptance.program import (
    PLIVO_ID,
    SECOND_TWILIO_SID,
    SECOND_TWILIO_TOKEN,
    Gateway,
    service,
    settings,
)
from tests.kit.bots import noted, notes_of
from tests.kit.golden import golden_bytes, golden_lines
from tests.kit.waiting import PATIENCE, until

UNKNOWN = {"event": "weather", "streamSid": "x", "weather": {"degrees": -3}}
JUNK: dict[str, str | bytes] = {
    "empty": "",
    "not-json": "{",
    "number": "7",
    "null": "null",
    "string": '"start"',
    "array": "[]",
    "array-of-events": '[{"event":"stop"}]',
    "no-event": "{}",
    "null-event": '{"event":null}',
    "event-of-object": '{"event":{"stop":1}}',
    "unknown-event": json.dumps(UNKNOWN),
    "media-null": '{"event":"media","media":null}',
    "media-array": '{"event":"media","media":[1,2]}',
    "media-string": '{"event":"media","media":"AAAA"}',
    "media-without-payload": '{"event":"media","media":{}}',
    "payload-null": '{"event":"media","media":{"payload":null,"chunk":null}}',
    "payload-number": '{"event":"media","media":{"payload":7}}',
    "payload-not-base64": '{"event":"media","media":{"payload":"<base64>","chunk":"x","track":"inbound"}}',
    "payload-empty": '{"event":"media","media":{"payload":"","chunk":"0"}}',
    "chunk-huge": '{"event":"media","media":{"payload":"!!!","chunk":"99999999999999999999999"}}',
    "dtmf-null": '{"event":"dtmf","dtmf":null}',
    "dtmf-many": '{"event":"dtmf","dtmf":{"digit":"1234567890"}}',
    "dtmf-emoji": '{"event":"dtmf","dtmf":{"digit":"\\ud83d\\ude00"}}',
    "mark-null": '{"event":"mark","mark":null}',
    "mark-unknown": '{"event":"mark","mark":{"name":"never asked for"}}',
    "played-unknown": '{"event":"playedStream","name":"never asked for"}',
    "start-null": '{"event":"start","start":null}',
    "start-array": '{"event":"start","start":[]}',
    "stop-of-nothing": '{"event":"stopp"}',
    "lone-surrogate": '{"event":"\\ud800"}',
    "nan": '{"event":NaN}',
    "deep": '{"event":' + "[" * 3000 + "]" * 3000 + "}",
    "long-number": '{"event":' + "9" * 10_000 + "}",
    "binary": b"\x00\x01\xff",
    "binary-empty": b"",
    "binary-json": b'{"event":"media","media":{"payload":"//8="}}',
    "60-kilobytes": json.dumps({"event": "weather", "wind": "x" * 60_000}),
}
BEFORE_START = (
    "empty",
    "not-json",
    "array",
    "null-event",
    "unknown-event",
    "media-null",
    "start-null",
    "start-array",
    "binary",
)


@pytest.fixture(scope="module")
def gateway(folder: Path, echo_bot: Path) -> Iterator[Gateway]:
    echo = service("echo.acme", echo_bot, default=True, min_warm=8, max=200)
    single = service("single.acme", echo_bot, min_warm=1, max=1, when_full="busy", wrapup_seconds=1)
    with Gateway.of(folder, settings(echo, single)) as running:
        yield running
        assert running.alive()
        running.assert_clean()


async def all_of(works: list[tuple[str, Callable[[], Awaitable[None]]]], at_once: int = 8) -> None:
    """Runs all, so many at once; one failure names all the cases that failed."""
    gate = asyncio.Semaphore(at_once)
    failed: list[str] = []

    async def one(name: str, work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            try:
                await work()
            except (AssertionError, OSError, websockets.WebSocketException, TimeoutError) as error:
                failed.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    await asyncio.gather(*(one(name, work) for name, work in works))
    assert not failed, "\n".join(failed)


def snake(message: Any) -> Any:
    """camelCase keys as snake_case, at all levels."""
    if not isinstance(message, dict):
        return message
    return {"".join("_" + c.lower() if c.isupper() else c for c in key): snake(value) for key, value in message.items()}


def camel(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    out = {}
    for key, value in message.items():
        head, *rest = key.split("_")
        out[head + "".join(part.title() for part in rest)] = camel(value)
    return out


def numbers(message: Any, form: type) -> Any:
    """Every number as ``form`` (int or str), wherever it stands; not in the ids and the parameters."""
    if isinstance(message, dict):
        keep = ("customParameters", "custom_parameters", "from", "to")
        return {key: value if key in keep else numbers(value, form) for key, value in message.items()}
    if isinstance(message, (int, str)) and str(message).isdigit() and len(str(message)) < 7:
        return form(message)
    return message


def without(message: dict[str, Any], *path: str, value: Any = ...) -> dict[str, Any]:
    """A copy that lacks what ``path`` leads to, or has ``value`` there."""
    message = copy.deepcopy(message)
    at = message
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = value
    return message


def variants(carrier: Carrier, start: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Starts that a lenient edge takes: every one holds the call's id and the stream's somewhere."""
    form = {"twilio": "mediaFormat", "telnyx": "media_format", "plivo": "mediaFormat", "exotel": "media_format"}[
        carrier.name
    ]
    found = {
        "as it is": start,
        "ints": numbers(start, int),
        "strings": numbers(start, str),
        "snake": snake(start),
        "camel": camel(start),
        "extra": start | {"surprise": {"a": [1]}, "start": start["start"] | {"surprise": None}},
    }
    parameters = {"twilio": "customParameters", "telnyx": "custom_parameters", "exotel": "custom_parameters"}.get(
        carrier.name
    )
    optional = [
        key for key in (parameters, "tracks", "tags", "client_state", "from", "to", form) if key in start["start"]
    ]
    for key in optional:
        found[f"no {key}"] = without(start, "start", key)
        found[f"null {key}"] = without(start, "start", key, value=None)
        found[f"array {key}"] = without(start, "start", key, value=[])
        found[f"string {key}"] = without(start, "start", key, value="" if key == form else "x")
    for key in ("sequenceNumber", "sequence_number", "extra_headers"):
        if key in start:
            found[f"no {key}"] = without(start, key)
            found[f"null {key}"] = without(start, key, value=None)
            found[f"array {key}"] = without(start, key, value=[1])
    for key in start["start"][form]:
        found[f"null {form}.{key}"] = without(start, "start", form, key, value=None)
        found[f"no {form}.{key}"] = without(start, "start", form, key)
    if carrier.name in ("twilio", "exotel"):
        key = {"twilio": "streamSid", "exotel": "stream_sid"}[carrier.name]
        found[f"{key} only above"] = without(start, "start", key)
        found[f"{key} only inside"] = without(start, key)
    account = {"twilio": None, "telnyx": "user_id", "plivo": "accountId", "exotel": "account_sid"}[carrier.name]
    if account:
        found["null account"] = without(start, "start", account, value=None)
    if carrier.name == "telnyx":
        found["parameters as a list"] = without(
            start, "start", "custom_parameters", value=[{"name": "a", "value": "b"}]
        )
        found["parameters in camel case"] = start | {"start": start["start"] | {"customParameters": {"a": "b"}}}
    if carrier.name == "exotel":
        found["rate with a unit"] = without(start, "start", form, "sample_rate", value="8000Hz")
    if carrier.name == "plivo":
        for text in ("{}", "{X-PH-key1: value1}", "k=v,k2=v2", '{"a": 1}', "=;=,", None, {"a": 1}, ["x"]):
            found[f"headers {text}"] = start | {"extra_headers": text}
    return found


Handshake = Callable[[Call, str, Answer], list[Any]]
"""What is sent first, by call, stream id, and the webhook's answer."""


async def echoes(carrier: Carrier, case: str, handshake: Handshake, gateway: Gateway, bot: Path) -> None:
    """A call that begins like that hears its echo. If it does not: what gateway and bot have said of it."""
    call = carrier.new_call()
    answer = await carrier.voice(call)
    async with carrier.open(answer.stream) as phone:
        for message in handshake(call, phone.stream, answer):
            await phone.send(message)
        try:
            await phone.hears_echo(case, 0.2)
        except AssertionError as error:
            session = answer.stream.partition(f"/ws/{carrier.name}/")[2].partition(".")[0]
            said = [
                (one.get("event"), one.get("on_hold"), one.get("worker"))
                for one in gateway.records()
                if one.get("session") == session
            ]
            noted = [one["what"] for one in notes_of(bot) if one["call"] == call.id]
            raise AssertionError(f"{said} {noted} {error}") from error


@pytest.mark.parametrize("name", NAMES)
async def test_forms_of_start(name: str, gateway: Gateway, echo_bot: Path) -> None:
    carrier = CARRIERS[name](gateway.url)
    sample = carrier.start(carrier.new_call(), carrier.new_stream(), {"a": "b"})

    def work(case: str) -> Callable[[], Awaitable[None]]:
        def handshake(call: Call, stream: str, _: Answer) -> list[Any]:
            connected = carrier.connected()
            start = variants(carrier, carrier.start(call, stream, {"a": "b"}))[case]
            return [start] if connected is None else [connected, start]

        return lambda: echoes(carrier, case, handshake, gateway, echo_bot)

    await all_of([(case, work(case)) for case in variants(carrier, sample)])


Before = Callable[[Carrier, dict[str, Any]], list[Any]]


def order(carrier: Carrier, start: dict[str, Any]) -> dict[str, list[Any]]:
    connected = carrier.connected() or {"event": "connected"}
    found: dict[str, list[Any]] = {
        "start first": [start],
        "connected twice": [connected, connected, start],
        "start third": [connected, UNKNOWN, start],
        "unknown between": [UNKNOWN, connected, UNKNOWN, UNKNOWN, start],
        "media before start": [connected, carrier.media("x", 1, b"\xff" * 160), start],
        "dtmf before start": [connected, carrier.dtmf("x", "1"), start],
        "four pieces of junk": [connected, "", "{", b"\x00", "[]", start],
        "null connected": [{"event": "connected", "protocol": None, "version": None}, start],
    }
    for junk in BEFORE_START:
        found[f"junk {junk}"] = [JUNK[junk], connected, JUNK[junk], start]
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_order_of_the_handshake(name: str, gateway: Gateway, echo_bot: Path) -> None:
    carrier = CARRIERS[name](gateway.url)

    def work(case: str) -> Callable[[], Awaitable[None]]:
        def handshake(call: Call, stream: str, answer: Answer) -> list[Any]:
            return order(carrier, carrier.start(call, stream, answer.parameters))[case]

        return lambda: echoes(carrier, case, handshake, gateway, echo_bot)

    sample = carrier.start(carrier.new_call(), "x", {})
    await all_of([(case, work(case)) for case in order(carrier, sample)])


async def test_junk_after_start_never_ends_the_call(gateway: Gateway) -> None:
    """One call, all the junk; it still hears its echo after each."""
    thirds = [(name, third) for name in NAMES for third in range(3)]
    await all_of(
        [(name, lambda name=name, third=third: junk_after_start(name, third, gateway)) for name, third in thirds], 12
    )


async def junk_after_start(name: str, third: int, gateway: Gateway) -> None:
    """A third of the junk, so that three calls share the time."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    failed = []
    spell = 0.2 if name == "exotel" else 0.1  # Exotel takes no shorter chunk
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("before any junk", spell)
        others = {
            "second start": carrier.start(call, phone.stream, {}),
            "start of another call": carrier.start(carrier.new_call(), phone.stream, {}),
            "connected again": carrier.connected() or {"event": "connected"},
            "media of another track": without(
                carrier.media(phone.stream, 1, b"\x80" * 160), "media", "track", value="outbound"
            ),
            "media of another stream": carrier.media("another", 1, b"\xff" * 160),
            "ten": "{",
        }
        for case, message in list((JUNK | others).items())[third::3]:
            try:
                for _ in range(10 if case == "ten" else 1):
                    await phone.send(message)
                await phone.hears_echo(f"after {case}", spell, 2)
            except (AssertionError, websockets.ConnectionClosed) as error:
                failed.append(f"{case}: {str(error)[:200]}")
                if phone.close_code is not None:
                    break
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", NAMES)
async def test_what_the_protocol_itself_forbids(name: str, gateway: Gateway) -> None:
    """10 MB: 1009. Text that is not UTF-8: RFC 6455, 8.1 lets an endpoint fail the connection (1007)."""
    carrier = CARRIERS[name](gateway.url)

    async def ended_by(message: Any, started: bool, **how: Any) -> int | None:
        call = carrier.new_call()
        answer = await carrier.voice(call)
        async with carrier.open(answer.stream) as phone:
            if started:
                await phone.shake(call, answer.parameters)
                await phone.hears_echo("first", 0.2)
            try:
                await phone.socket.send(message, **how)
            except (websockets.ConnectionClosed, OSError):
                pass
            if how and phone.close_code is None:
                await asyncio.sleep(0.2)
                if phone.close_code is None:
                    if not started:
                        await phone.shake(call, answer.parameters)
                    await phone.hears_echo("after", 0.2)
                    return None
            return await phone.ends()

    codes = await asyncio.gather(
        *(ended_by("x" * 10_000_000, started) for started in (False, True)),
        *(ended_by(b"y" * 10_000_000, started) for started in (False, True)),
        *(ended_by(b'{"event":"\xff\xfe"}', started, text=True) for started in (False, True)),
    )
    assert set(codes[:4]) <= {1009, 1006}, codes
    assert set(codes[4:]) <= {None, 1007}, codes


@pytest.mark.parametrize("name", NAMES)
async def test_digit_right_after_start(name: str, gateway: Gateway, echo_bot: Path) -> None:
    """A caller who knows the menu dials before the bot listens: it waits for the bot, as audio does."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    async with carrier.phone(call, answer) as phone:
        await phone.press("7")
        await phone.hears_echo("after the digit", 0.2)
        notes = await noted(echo_bot, call.id, "dtmf")
    assert [one["digit"] for one in notes if one["what"] == "dtmf"] == ["7"]


@pytest.mark.parametrize("name", NAMES)
async def test_five_unintelligible_before_start(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    for junk in ("{", b"\x00\x01"):
        answer = await carrier.voice(carrier.new_call())
        async with carrier.open(answer.stream) as phone:
            for _ in range(5):
                await phone.send(junk)
            assert await phone.ends() == 1003


async def test_no_start_for_five_seconds(gateway: Gateway) -> None:
    """Silent, or talkative without ever saying start: 1008 after 5 s, not before."""

    async def silent(carrier: Carrier, talk: bool) -> None:
        answer = await carrier.voice(carrier.new_call())
        loop = asyncio.get_running_loop()
        async with carrier.open(answer.stream) as phone:
            begin = loop.time()
            while phone.close_code is None and loop.time() - begin < PATIENCE:
                if talk:
                    await phone.socket.send(json.dumps(UNKNOWN))
                try:
                    await phone.ends(0.5)
                except (AssertionError, TimeoutError):
                    pass
            assert phone.close_code == 1008
            assert loop.time() - begin > 4.5

    carriers = [CARRIERS[name](gateway.url) for name in NAMES]

    async def quietly(carrier: Carrier, talk: bool) -> None:
        try:
            await silent(carrier, talk)
        except websockets.ConnectionClosed:
            pass

    await asyncio.gather(*(silent(carrier, False) for carrier in carriers), *(quietly(one, True) for one in carriers))


# -- Captures


async def test_twilio_as_captured(gateway: Gateway, echo_bot: Path) -> None:
    lines = [
        golden_bytes(f"twilio-{name}.json").decode()
        for name in ("02-ws-connected", "03-ws-start-noparams", "06-ws-media-first", "08-ws-stop")
    ]
    start = json.loads(lines[1])["start"]

    class Second(Twilio):
        def headers(self, url: str, form: dict[str, str]) -> dict[str, str]:
            from twilio.request_validator import RequestValidator

            return {"X-Twilio-Signature": RequestValidator(SECOND_TWILIO_TOKEN).compute_signature(url, form)}

        def upgrade_headers(self, url: str) -> dict[str, str]:
            return self.headers(url, {})

    carrier = Second(gateway.url)
    call = Call(start["callSid"], "+15550100002", "+15550100004", SECOND_TWILIO_SID)
    answer = await carrier.voice(call)
    async with carrier.open(answer.stream) as phone:
        for line in lines[:3]:
            await phone.send(line)
        phone.stream = start["streamSid"]
        await phone.hears_echo("after the capture", 0.2)
        assert all(message["streamSid"] == start["streamSid"] for message in phone.got)
        await phone.send(lines[3])
        await phone.socket.close(1000)
    await noted(echo_bot, call.id, "end")
    (begun,) = [one for one in notes_of(echo_bot) if one["call"] == call.id and one["what"] == "start"]
    assert begun["sender"] == "+15550100002", "the handshake has no numbers: the webhook knows them"
    assert begun["stream"] == start["streamSid"]


async def test_telnyx_as_documented(gateway: Gateway, echo_bot: Path) -> None:
    start = golden_bytes("telnyx-06-ws-start-doc.json").decode()
    connected, mark, dtmf, stop = golden_lines("telnyx-07-ws-control-doc.jsonl")
    inner = json.loads(start)["start"]
    carrier = Telnyx(gateway.url)
    call = Call(inner["call_control_id"], inner["from"], inner["to"], inner["user_id"])
    answer = await carrier.voice(call)
    async with carrier.open(answer.stream) as phone:
        for line in (connected, start, mark, dtmf):
            await phone.send(line)
        await phone.hears_echo("after the capture", 0.2)
        await phone.send(stop)
        await phone.socket.close(1000)
    notes = await noted(echo_bot, call.id, "end")
    assert [one["digit"] for one in notes if one["what"] == "dtmf"] == ["1"]
    assert notes[0]["sender"] == "+15550100005"


async def test_plivo_as_documented(gateway: Gateway, echo_bot: Path) -> None:
    lines = golden_lines("plivo-07-ws-documented.jsonl")
    older = golden_lines("plivo-08-ws-older-strings.jsonl")
    inner = json.loads(lines[0])["start"]
    carrier = Plivo(gateway.url)
    call = Call(inner["callId"], "15550100002", "15550100004", PLIVO_ID)
    answer = await carrier.voice(call)
    async with carrier.open(answer.stream) as phone:
        for line in lines + older:
            await phone.send(line.replace("MAXXXXXXXXXXXXXXXXXX", PLIVO_ID))
        phone.stream = inner["streamId"]
        await phone.hears_echo("after the capture", 0.2)
        await phone.socket.close(1000)
    notes = await noted(echo_bot, call.id, "end")
    assert [one["digit"] for one in notes if one["what"] == "dtmf"] == ["5"]
    assert notes[0]["body"].get("userId") == "12345", "extra_headers are the call's body"


async def test_plivo_subaccount(gateway: Gateway) -> None:
    """The webhook names the main account, the stream the subaccount that owns the call: the token binds them."""
    carrier = Plivo(gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    async with carrier.open(answer.stream) as phone:
        start = carrier.start(call, phone.stream, answer.parameters)
        await phone.send(without(start, "start", "accountId", value="SAXXXXXXXXXXXXXXXXXX"))
        await phone.hears_echo("of a subaccount", 0.2)


async def test_exotel_as_documented(gateway: Gateway, echo_bot: Path) -> None:
    """The file holds three variants of one start: each its own call, all of them in one stream too."""
    lines = golden_lines("exotel-07-ws-doc-variants.jsonl")
    carrier = CARRIERS["exotel"](gateway.url)
    for at, start in enumerate([*lines[1:4], "\n"]):
        call = Call(f"CAXXXX{at}", "05550100009", "05550100010", "ACXXXX")
        answer = await carrier.voice(call)
        async with carrier.open(answer.stream) as phone:
            sent = [lines[0], start, *lines[4:7]] if at < 3 else lines[:7]
            for line in sent:
                await phone.send(line.replace("CAXXXX", call.id))
            phone.stream = "MZXXXX"
            await phone.hears_echo("after the capture", 0.4)
            await phone.send(lines[7].replace("CAXXXX", call.id))
            await phone.socket.close(1000)
        notes = await noted(echo_bot, call.id, "end")
        assert [one["digit"] for one in notes if one["what"] == "dtmf"] == ["5"]
        assert notes[0]["sender"] == "+915550100009"


# -- Tokens


async def refused(carrier: Carrier, url: str, **options: Any) -> int:
    """The status that the upgrade is answered with."""
    try:
        async with carrier.open(url, **options):
            return 101
    except websockets.InvalidStatus as error:
        return error.response.status_code


@pytest.mark.parametrize("name", NAMES)
async def test_token_missing_bad_or_of_another_carrier(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    answer = await carrier.voice(carrier.new_call())
    base, _, token = answer.stream.partition(f"/ws/{name}/")
    token, _, _ = token.partition("?")
    other = next(one for one in NAMES if one != name)
    bad = [
        f"{base}/ws/{name}/x",
        f"{base}/ws/{name}/{token}x",
        f"{base}/ws/{name}/{token[:-1]}",
        f"{base}/ws/{name}/{token[:5]}{'0' if token[5] != '0' else '1'}{token[6:]}",
        f"{base}/ws/{name}/{token.swapcase()}",
        f"{base}/ws/{name}/{'a' * 4000}",
        f"{base}/ws/{name}/%C3%A9.b.c.d.e",
        f"{base}/ws/{name}/....",
        f"{base}/ws/{other}/{token}",
    ]
    before = len(gateway.lines)
    for url in bad:
        signer = carrier if f"/ws/{other}/" not in url else CARRIERS[other](gateway.url)
        assert await refused(signer, url) == 403, url
    assert await refused(carrier, f"{base}/ws/{name}/") in (403, 404)
    assert token not in "".join(gateway.lines[before:])
    assert await refused(carrier, answer.stream) == 101, "the honest one still works"


async def test_twilio_upgrade_without_its_signature(gateway: Gateway) -> None:
    """Twilio signs its upgrades: a stolen URL alone opens nothing."""
    carrier = Twilio(gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    for headers in ({}, {"x-twilio-signature": "AAAA"}, carrier.upgrade_headers(answer.stream + "/")):
        assert await refused(carrier, answer.stream, additional_headers=headers) == 403
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("with it", 0.2)


@pytest.mark.parametrize("name", NAMES)
async def test_token_spent(name: str, gateway: Gateway) -> None:
    """A second stream with a token whose call is talking: closed 1008; the first hears nothing of it."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("first", 0.2)
        try:
            async with carrier.phone(call, answer) as second:
                assert await second.ends() == 1008
        except websockets.InvalidStatus as error:
            pytest.fail(f"accepted before it is judged, says the contract; got {error}")
        await phone.hears_echo("after the second", 0.2)


@pytest.mark.parametrize("name", NAMES)
async def test_start_names_another_call(name: str, gateway: Gateway) -> None:
    """1008; and the honest call comes in by the same URL afterwards, though the service has one slot only."""
    carrier = CARRIERS[name](gateway.url)

    async def ring() -> tuple[Call, Answer] | None:
        call = carrier.new_call()
        answer = await carrier.voice(call, "serviceHost=single.acme")
        return (call, answer) if answer.stream else None

    call, answer = await until(ring, complain="the slot is free after the call of the test before")
    async with carrier.open(answer.stream) as phone:
        await phone.shake(carrier.new_call(), answer.parameters)
        assert await phone.ends() == 1008
    full = await carrier.voice(carrier.new_call(), "serviceHost=single.acme")
    assert not full.stream, "the slot was given away"
    if name == "exotel":
        assert full.response.status_code == 503
    else:
        assert full.xml[0].get("reason") == "busy", full.response.text
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("the honest one", 0.2)
        await phone.hang_up()

    again, answer = await until(ring, complain="the slot is free after the call")
    async with carrier.phone(again, answer) as phone:
        await phone.hears_echo("the next one", 0.2)
        await phone.hang_up()


@pytest.mark.parametrize("name", NAMES)
async def test_connection_dies_before_start(name: str, gateway: Gateway) -> None:
    """The URL works again: after a clean close and after an abrupt one, before and after connected."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call)
    for clean_close in (True, False):
        for connected in (False, True):
            async with carrier.open(answer.stream) as phone:
                if connected and (message := carrier.connected()) is not None:
                    await phone.send(message)
                if not clean_close:
                    phone.drop()
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("at last", 0.2)
