"""Flows that never asked us: Pipecat Cloud's URLs, TwiML Bins, static TeXML, Exotel's fixed URL. Each with its key."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.acceptance.carriers import CARRIERS, NAMES, Carrier, Twilio
from tests.acceptance.program import SECOND_TWILIO_SID, STREAM_KEYS, Gateway, service, settings
from tests.kit.bots import noted, place_bot

KEYED = ("telnyx", "plivo", "exotel")


@pytest.fixture(scope="module")
def other_bot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return place_bot("echo", tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def gateway(folder: Path, echo_bot: Path, other_bot: Path) -> Iterator[Gateway]:
    default = service("echo.acme", echo_bot, default=True, min_warm=4)
    other = service("other.acme", other_bot, min_warm=4, numbers=["+15550100077", "+915550100077"])
    with Gateway.of(folder, settings(default, other)) as running:
        yield running
        assert running.alive()
        running.assert_clean()


async def status_of(carrier: Carrier, url: str, **options: Any) -> int:
    try:
        async with carrier.open(url, **options):
            return 101
    except websockets.InvalidStatus as error:
        return error.response.status_code


async def answered_by(
    carrier: Carrier, url: str, bot: Path, parameters: dict[str, str] | None = None, **options: Any
) -> Any:
    """Calls; hears its echo; the note that ``bot`` made of the call."""
    call = carrier.new_call(*options.pop("numbers", ()))
    async with carrier.open(url, **options) as phone:
        await phone.shake(call, parameters)
        await phone.hears_echo(url.partition("/ws")[2], 0.4)
        await phone.hang_up()
    notes = await noted(bot, call.id, "start")
    return next(one for one in notes if one["what"] == "start")


def ws(gateway: Gateway) -> str:
    return gateway.public_url.replace("http", "ws", 1)


async def test_twiml_bin_of_pipecat_cloud(gateway: Gateway, other_bot: Path) -> None:
    """The service host is a parameter: known with ``start`` only."""
    carrier = Twilio(gateway.url)
    parameters = {"_pipecatCloudServiceHost": "other.acme", "color": "red"}
    note = await answered_by(carrier, f"{ws(gateway)}/ws/twilio", other_bot, parameters)
    assert note["body"]["color"] == "red"
    assert note["service"] == "other.acme"
    await answered_by(carrier, f"{ws(gateway)}/ws/twilio", other_bot, {"serviceHost": "other.acme"})


async def test_twilio_without_service_host(gateway: Gateway, echo_bot: Path) -> None:
    """Nothing names a service, and Twilio's start holds no number: the default."""
    await answered_by(Twilio(gateway.url), f"{ws(gateway)}/ws/twilio", echo_bot, {"a": "b"})


async def test_twilio_numbers_among_the_parameters(gateway: Gateway, other_bot: Path) -> None:
    parameters = {"from_number": "+15550100002", "to_number": "+15550100077"}
    note = await answered_by(Twilio(gateway.url), f"{ws(gateway)}/ws/twilio", other_bot, parameters)
    assert (note["sender"], note["to"]) == ("+15550100002", "+15550100077")


async def test_twilio_refused(gateway: Gateway) -> None:
    """No signature, a wrong one, one of another URL: 403. A key opens nothing at /ws/twilio."""
    carrier = Twilio(gateway.url)
    url = f"{ws(gateway)}/ws/twilio"
    key = STREAM_KEYS["twilio"]
    for headers in ({}, {"x-twilio-signature": "x" * 4000}, carrier.upgrade_headers(url + "/x")):
        assert await status_of(carrier, url, additional_headers=headers) == 403
    assert await status_of(carrier, f"{url}?key={key}", additional_headers={}) == 403


async def test_twilio_of_a_foreign_account(gateway: Gateway) -> None:
    """Well signed by an account of ours, but start names another: 1008."""
    carrier = Twilio(gateway.url)
    for account in ("AC" + "0" * 32, SECOND_TWILIO_SID):
        call = carrier.new_call()
        async with carrier.open(f"{ws(gateway)}/ws/twilio") as phone:
            start = carrier.start(call, phone.stream, {})
            start["start"]["accountSid"] = account
            await phone.send(carrier.connected())
            await phone.send(start)
            assert await phone.ends() == 1008, account


@pytest.mark.parametrize("name", KEYED)
async def test_service_host_in_the_query(name: str, gateway: Gateway, other_bot: Path) -> None:
    """``wss://…/ws/telnyx?serviceHost=agent.org`` with its key in each of the three places."""
    carrier = CARRIERS[name](gateway.url)
    key = STREAM_KEYS[name]
    base = f"{ws(gateway)}/ws/{name}"
    basic = {"Authorization": "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()}
    await asyncio.gather(
        answered_by(carrier, f"{base}?serviceHost=other.acme&key={key}", other_bot, additional_headers={}),
        answered_by(carrier, f"{base}/s/other.acme/{key}", other_bot, additional_headers={}),
        answered_by(carrier, f"{base}?serviceHost=other.acme", other_bot, additional_headers=basic),
    )


async def test_plivo_by_its_signature(gateway: Gateway, other_bot: Path) -> None:
    carrier = CARRIERS["plivo"](gateway.url)
    await answered_by(carrier, f"{ws(gateway)}/ws/plivo?serviceHost=other.acme", other_bot)


@pytest.mark.parametrize("name", ("telnyx", "exotel"))
async def test_service_host_by_parameter_then_number(
    name: str, gateway: Gateway, echo_bot: Path, other_bot: Path
) -> None:
    carrier = CARRIERS[name](gateway.url)
    base = f"{ws(gateway)}/ws/{name}?key={STREAM_KEYS[name]}"
    numbers = ("05550100009", "05550100077") if name == "exotel" else ("+15550100002", "+15550100077")
    for parameters in ({"serviceHost": "other.acme"}, {"_pipecatCloudServiceHost": "other.acme"}):
        note = await answered_by(carrier, base, other_bot, parameters, additional_headers={})
        assert note["sender"] == ("+915550100009" if name == "exotel" else "+15550100002")
    await answered_by(carrier, base, other_bot, {}, numbers=numbers, additional_headers={})
    await answered_by(carrier, base, echo_bot, {"serviceHost": "echo.acme"}, numbers=numbers, additional_headers={})
    await answered_by(carrier, base, echo_bot, {}, additional_headers={})


@pytest.mark.parametrize("name", KEYED)
async def test_refused_without_key(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    base = f"{ws(gateway)}/ws/{name}"
    other = STREAM_KEYS[next(one for one in KEYED if one != name)]
    basic = {"Authorization": "Basic " + base64.b64encode(b"anyone:wrong").decode()}
    for url, headers in (
        (f"{base}?serviceHost=echo.acme", {}),
        (f"{base}?serviceHost=echo.acme&key=", {}),
        (f"{base}?serviceHost=echo.acme&key=wrong", {}),
        (f"{base}?serviceHost=echo.acme&key={other}", {}),
        (f"{base}?serviceHost=echo.acme&key=%C3%A9", {}),
        (f"{base}/s/echo.acme/wrong", {}),
        (f"{base}/s/echo.acme/{other}", {}),
        (f"{base}?serviceHost=echo.acme", basic),
        (f"{base}?serviceHost=echo.acme", {"Authorization": "Basic %%%"}),
    ):
        before = gateway.fence() + 1
        assert await status_of(carrier, url, additional_headers=headers) == 403, url
        records = gateway.records(before, gateway.fence())
        assert [one["event"] for one in records].count("refused") == 1, records


@pytest.mark.parametrize("name", KEYED)
async def test_unknown_service_host(name: str, gateway: Gateway) -> None:
    """Named but unknown: refused, not passed on to the default."""
    carrier = CARRIERS[name](gateway.url)
    url = f"{ws(gateway)}/ws/{name}?serviceHost=nobody.nowhere&key={STREAM_KEYS[name]}"
    try:
        async with carrier.open(url, additional_headers={}) as phone:
            await phone.shake(carrier.new_call())
            assert await phone.ends() is not None
            assert phone.seconds() == 0
    except websockets.InvalidStatus as error:
        assert error.response.status_code in (403, 404, 503)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", NAMES)
async def test_one_path_for_all(name: str, of: str, gateway: Gateway, other_bot: Path) -> None:
    """``/ws`` tells the carriers apart by their handshake; each stream key opens its own carrier only."""
    carrier = CARRIERS[name](gateway.url)
    url = f"{ws(gateway)}/ws?serviceHost=other.acme&key={STREAM_KEYS[of]}"
    if of == name:
        note = await answered_by(carrier, url, other_bot, {}, additional_headers={})
        assert note["carrier"] == name
        return
    async with carrier.open(url, additional_headers={}) as phone:
        await phone.shake(carrier.new_call())
        assert await phone.ends() == 1008
        assert phone.seconds() == 0


async def test_one_path_for_all_refused(gateway: Gateway) -> None:
    for name in NAMES:
        carrier = CARRIERS[name](gateway.url)
        for query in ("", "?key=wrong", "?key=", "?token=x"):
            assert await status_of(carrier, f"{ws(gateway)}/ws{query}", additional_headers={}) == 403, query


async def test_one_path_and_a_handshake_of_nobody(gateway: Gateway) -> None:
    """Undetectable: closed, by the rule for five unintelligible or for none in time; the gateway lives."""
    carrier = Twilio(gateway.url)
    async with carrier.open(f"{ws(gateway)}/ws?key={STREAM_KEYS['twilio']}", additional_headers={}) as phone:
        for _ in range(5):
            await phone.send("{")
        assert await phone.ends() == 1003


async def test_bot_hangs_up_a_static_stream(gateway: Gateway) -> None:
    carrier = CARRIERS["exotel"](gateway.url)
    async with carrier.open(f"{ws(gateway)}/ws/exotel?key={STREAM_KEYS['exotel']}", additional_headers={}) as phone:
        await phone.shake(carrier.new_call())
        await phone.hears_echo("first", 0.2)
        await phone.press("#")
        assert await phone.ends() == 1000
