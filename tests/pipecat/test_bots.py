"""Pipecat bots behind the gateway do what they do under Pipecat's own runner, on all four carriers.

A bot of each documented style, in each way to run it; "runner" is the measure, without us.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from gateway.simulator import Faults
from gateway.simulator.rest import Plan, SimulatedCarriers
from gateway.worker.pipecat.client import OUR_MARK
from tests.kit.waiting import until
from tests.pipecat.heard import echo_of, seconds_of
from tests.pipecat.rig import CARRIERS, OURS, STYLES, WAYS, Behind, Placed, Setting, dial, silence, speech

pytestmark = [pytest.mark.pipecat, pytest.mark.asyncio(loop_scope="module")]

WORDS = speech(2.5)
SPEAK, INTERRUPT, MARK, HANG_UP = 4.6, 6.4, 8.2, 9.0
CONVERSATION = np.concatenate([WORDS, silence(INTERRUPT - 2.5), speech(1.2), silence(3.0)])
"""The caller is echoed; has the bot speak, and interrupts it; asks for a mark, and to be hung up on."""
KEYS = ((SPEAK, "5"), (MARK, "8"), (HANG_UP, "9"))
FLOW = {"campaign": "spring sale"}
"""What a flow's author gives the bot."""

had: dict[tuple[str, str], dict[str, Placed]] = {}
"""Each conversation, by way and style, as it is had once."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest() -> AsyncIterator[SimulatedCarriers]:
    async with SimulatedCarriers(plan=Plan(rings=0.1, seconds=3.0)) as simulated:
        yield simulated


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[*((w, s) for s in STYLES for w in WAYS), ("pcm", "with_transport")],
    ids="-".join,
)
async def setting(
    request: pytest.FixtureRequest, rest: SimulatedCarriers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Setting]:
    way, style = request.param
    if way != "runner" and ("runner", style) not in had:
        async with Behind("runner", style, tmp_path_factory.mktemp("runner"), rest) as runner:
            had["runner", style] = await converse(runner)
    async with Behind(way, style, tmp_path_factory.mktemp(way), rest) as running:
        yield running


async def converse(setting: Setting) -> dict[str, Placed]:
    given: dict[str, Any] = {"parameters": FLOW} if setting.static else {"query": FLOW}
    return await setting.calls(CONVERSATION, faults=Faults(dtmf=KEYS), seconds=14.0, **given)


async def conversation(setting: Setting) -> dict[str, Placed]:
    if (key := (setting.way, setting.style)) not in had:
        had[key] = await converse(setting)
    return had[key]


async def test_the_caller_is_echoed_as_well_as_by_the_runner(setting: Setting) -> None:
    """How well that is moves with the machine, as Pipecat paces its output by a clock."""
    measure = had.get(("runner", setting.style))
    for carrier, placed in (await conversation(setting)).items():
        echo = echo_of(placed.report, WORDS, SPEAK)
        assert echo.share > 0.4, f"{carrier}: {echo}"
        if measure is not None:
            usual = echo_of(measure[carrier].report, WORDS, SPEAK)
            told = f"{carrier}: {echo}, where the runner has {usual}"
            assert echo.share >= usual.share - 0.25 and echo.lost <= usual.lost + 300, told


async def test_keys_marks_and_the_bots_hang_up_pass(setting: Setting) -> None:
    done = await conversation(setting)
    for carrier, placed in done.items():
        assert placed.digits == "589", str(placed)
        usual = had.get(("runner", setting.style), done)[carrier].report.marks
        said = [mark for mark in placed.report.marks if not mark.startswith((OUR_MARK, "gw_"))]  # "pcm": ours, too
        # Pipecat's serializer for Telnyx sent none of a bot's own messages at first
        assert said == (["said"] if usual or carrier != "telnyx" else []), str(placed)
        assert (placed.report.ended_by, placed.report.outcome) == ("gateway", "completed"), str(placed)
        assert placed.of("EndFrame"), f"{carrier}: the bot was cancelled instead: {placed}"


async def test_a_caller_who_speaks_interrupts_the_bot(setting: Setting) -> None:
    for carrier, placed in (await conversation(setting)).items():
        assert placed.of("interrupted"), str(placed)
        assert sum(log.cleared for log in placed.report.streams) == 1, str(placed)
        assert 0.3 < seconds_of(placed.report, speech(4.0), SPEAK) < 3.2, f"{carrier}: the file of 4 s was not cut"


async def test_the_bot_is_told_at_least_as_much_as_by_the_runner(setting: Setting) -> None:
    measure = had.get(("runner", setting.style))
    for carrier, placed in (await conversation(setting)).items():
        start = placed.start
        assert start["kind"] == "WebSocketRunnerArguments"
        assert "missing" not in start["arguments"].values()
        assert start["arguments"]["session_id"]
        if measure is None:
            continue
        usual = measure[carrier].start
        for name, value in usual["call_data"].items():
            if value:
                assert_as_full(start["call_data"].get(name), value, f"{carrier}: call_data.{name}")
        for name in ("transport_type", "handle_sigint", "handle_sigterm", "pipeline_idle_timeout_secs"):
            assert start["arguments"][name] == usual["arguments"][name], f"{carrier}: {name}"


def assert_as_full(ours: Any, theirs: Any, what: str) -> None:
    if isinstance(theirs, dict):
        assert theirs.items() <= ours.items(), what
    elif what.endswith(("_id", "account_sid")):
        assert ours and type(ours) is type(theirs), what  # other calls have other ids
    else:
        assert ours == theirs, what


async def test_a_bot_sees_its_caller_hang_up(setting: Setting) -> None:
    for placed in (await setting.calls(speech(4.0), linger=0.0)).values():
        assert placed.report.ended_by == "caller", str(placed)
        assert placed.of("disconnected") and placed.of("end"), str(placed)


@pytest.mark.parametrize("body", [{"order": 17, "notes": ["ä", {"b": None}]}, {}], ids=["body", "no-body"])
async def test_a_call_that_is_placed_has_its_body(
    setting: Setting, rest: SimulatedCarriers, body: dict[str, Any]
) -> None:
    if setting.gateway is None:
        pytest.skip("Pipecat's runner places no telephone calls")
    await setting.ready()
    numbers = {carrier: f"+1555019000{n}" for n, carrier in enumerate(CARRIERS)}
    ids = dict(
        zip(CARRIERS, await asyncio.gather(*(dial(setting, c, numbers[c], body) for c in CARRIERS)), strict=True)
    )
    for carrier, call_id in ids.items():
        start = next(n for n in await setting.noted(call_id, "end", 20) if n["what"] == "start")
        if setting.way != "behind":  # the runner's /ws knows of no body
            assert (start["arguments"]["body"] or {}) == body, f"{carrier}: {start}"
        told = {start["call_data"].get("from"), start["call_data"].get("to")}
        if told != {None}:  # as in Plivo's handshake, and in what an older Pipecat makes of Twilio's
            assert told == {OURS, numbers[carrier]}, carrier  # Exotel writes who is called under `from`
    await until(lambda: all(call.is_over for call in rest.calls), 10)
