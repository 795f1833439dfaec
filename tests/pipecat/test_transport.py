"""A Pipecat pipeline over the pcm protocol, the gateway's end of the link in the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipecat.runner.types
import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputTransportMessageFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

from gateway.protocol import pcm
from gateway.worker import Call
from gateway.worker.bot_loader import load
from gateway.worker.pipecat import create_transport, runner_arguments
from tests.kit.fake_gateway import Link
from tests.kit.waiting import PATIENCE, until
from tests.pipecat.slots import KEY, served

pytestmark = pytest.mark.pipecat

RATE = 16000
FRAME = RATE // 50 * 2
END = bytes(FRAME)
"""The silence behind speech that fills its last chunk."""
CALL = {"from": "+15550100", "to": "+15550199", "carrier": "twilio", "call_id": "CA1", "body": {"plan": "gold"}}


class Ear(FrameProcessor):
    """Stands between the transport's halves: writes down what passes, and echoes if asked to."""

    def __init__(self, echo: bool) -> None:
        super().__init__()
        self.echo = echo
        self.passed: list[tuple[float, Frame, FrameDirection]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.passed.append((time.monotonic(), frame, direction))
        if self.echo and isinstance(frame, InputAudioRawFrame):
            await self.push_frame(OutputAudioRawFrame(frame.audio, frame.sample_rate, 1))
        else:
            await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Frame]:
        return [frame for _, frame, _ in self.passed if isinstance(frame, kinds)]


class Bot:
    """A bot as its author would write it, and what the test wants to see of it."""

    def __init__(self, *, echo: bool = False, params: dict[str, Any] | None = None, rates: tuple[int, int]) -> None:
        self.ear = Ear(echo)
        self.params = params or {}
        self.rates = rates
        self.told: list[str] = []
        self.events: list[Any] = []
        self.sockets: list[Any] = []
        self.arguments: Any = None
        self.transport: Any = None
        self.worker: Any = None

    async def run(self, call: Call) -> None:
        self.arguments = runner_arguments(call)
        params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, **self.params)
        self.transport = transport = await create_transport(self.arguments, {"twilio": lambda: params})
        self.worker = PipelineWorker(
            Pipeline([transport.input(), self.ear, transport.output()]),
            params=PipelineParams(audio_in_sample_rate=self.rates[0], audio_out_sample_rate=self.rates[1]),
        )

        @transport.event_handler("on_client_connected")
        async def connected(_: Any, socket: Any) -> None:
            self.told.append("connected")
            self.sockets.append(socket)

        @transport.event_handler("on_client_disconnected")
        async def disconnected(_: Any, socket: Any) -> None:
            self.told.append("disconnected")
            self.sockets.append(socket)
            await self.worker.cancel()

        @transport.event_handler("on_session_timeout")
        async def timeout(_: Any, socket: Any) -> None:
            self.told.append("timeout")

        @transport.event_handler("on_call_event")
        async def event(_: Any, event: Any) -> None:
            self.events.append(event)

        runner = WorkerRunner(handle_sigint=self.arguments.handle_sigint)
        await runner.add_workers(self.worker)
        await runner.run()

    async def say(self, *frames: Frame) -> None:
        for frame in frames:
            await self.worker.queue_frame(frame)


class TimedLink(Link):
    """Notes when a message came."""

    def __init__(self) -> None:
        super().__init__(RATE, PATIENCE)
        self.times: asyncio.Queue[float] = asyncio.Queue()

    def received(self, data: bytes, text: bool) -> None:
        super().received(data, text)
        if not text:
            self.times.put_nowait(time.monotonic())

    async def came(self) -> float:
        return await asyncio.wait_for(self.times.get(), PATIENCE)


class Talk:
    def __init__(self, bot: Bot, link: TimedLink, redial: Callable[[int], Awaitable[TimedLink]]) -> None:
        self.bot, self.link, self.redial = bot, link, redial

    @property
    def audio(self) -> bytes:
        return b"".join(said for said in self.link.said if isinstance(said, bytes))

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.link.said if isinstance(said, dict) and said["type"] == kind]


@contextlib.asynccontextmanager
async def talk(
    tmp_path: Path, *, rates: tuple[int, int] = (RATE, RATE), link_rate: int = RATE, **options: Any
) -> AsyncIterator[Talk]:
    bot = Bot(rates=rates, **options)

    async def dial(fence: int) -> TimedLink:
        link = TimedLink()
        await link.dial(f"unix:{slot.path}", KEY, "s1", fence)
        link.tell(pcm.Start("s1", "a.b", "twilio", fence, CALL, link_rate))
        return link

    async with served(tmp_path, bot.run) as slot:
        link = await dial(1)
        await until(lambda: bot.told == ["connected"], PATIENCE)
        await link.until(lambda: {"type": "ready"} in link.said)
        try:
            yield Talk(bot, link, dial)
        finally:  # a pipeline that goes on holds the loop's end up for good
            if "disconnected" not in bot.told:
                await bot.worker.cancel()
            await until(lambda: slot.over, PATIENCE)


def tone(seconds: float, rate: int = RATE) -> bytes:
    return (np.sin(np.arange(int(seconds * rate)) * 0.2) * 8000).astype(np.int16).tobytes()


def speech(seconds: float) -> TTSAudioRawFrame:
    return TTSAudioRawFrame(tone(seconds), RATE, 1)


async def test_an_echo_is_sample_for_sample_and_at_once(tmp_path: Path) -> None:
    async with talk(tmp_path, echo=True) as t:
        caller = tone(1.0)
        delays = []
        for at in range(0, len(caller), FRAME):
            began = time.monotonic()
            t.link.socket.send(caller[at : at + FRAME])
            delays.append(await t.link.came() - began)
        assert t.audio == caller
        at_once = sorted(delays[:10])  # of more, this is faster than a caller speaks: that is paced
        assert at_once[5] < 0.010  # no timer lies between


async def test_the_arguments_are_as_pipecats_or_fuller(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        arguments = t.bot.arguments
        assert arguments.body == {"plan": "gold"} and arguments.session_id == "s1"
        assert arguments.transport_type == "twilio"
        assert (arguments.handle_sigint, arguments.handle_sigterm) == (False, False)
        assert arguments.pipeline_idle_timeout_secs == 300 and arguments.cli_args is None
        data = arguments.call_data
        assert (data["from"], data["to"], data["call_id"]) == ("+15550100", "+15550199", "CA1")
        assert data["body"] == {"plan": "gold"}
        if hasattr(pipecat.runner.types, "CallData"):  # else a dict, as that version's
            assert isinstance(data, pipecat.runner.types.CallData) and data.from_number == "+15550100"
            assert await parse_telephony_websocket(arguments.websocket) == ("twilio", data)
        assert t.bot.sockets == [arguments.websocket] and arguments.websocket.client_state.name == "CONNECTED"
        with pytest.raises(AttributeError, match="import Pipecat's"):
            await arguments.websocket.receive_text()


async def test_the_bot_has_stopped_when_the_caller_has_heard_it(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(0.1), TTSStoppedFrame())
        await t.link.until(lambda: t.said("mark"))
        assert t.audio == tone(0.1) + END
        assert t.bot.ear.of(BotStartedSpeakingFrame) and not t.bot.ear.of(BotStoppedSpeakingFrame)
        t.link.tell(pcm.MarkReached(t.said("mark")[0]["name"], True))
        await until(lambda: t.bot.ear.of(BotStoppedSpeakingFrame), PATIENCE)
        assert t.bot.events == []  # our mark is nothing to the bot


async def test_speech_on_end_without_a_pause_is_started_and_stopped_in_pairs(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(0.1), TTSStoppedFrame(), speech(0.1), TTSStoppedFrame())
        await t.link.until(lambda: len(t.said("mark")) == 2)
        kinds = [type(f) for f in t.bot.ear.of(BotStartedSpeakingFrame, BotStoppedSpeakingFrame)]
        assert kinds == [BotStartedSpeakingFrame, BotStoppedSpeakingFrame, BotStartedSpeakingFrame]
        assert t.audio == (tone(0.1) + END) * 2


async def test_no_more_is_handed_over_than_the_gateway_wants(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        began = time.monotonic()
        await t.bot.say(speech(0.8), TTSStoppedFrame())
        await t.link.until(lambda: len(t.audio) >= 0.2 * RATE * 2)
        assert time.monotonic() - began < 0.15  # the lead at once
        await t.link.until(lambda: t.said("mark"))
        assert time.monotonic() - began > 0.55  # the rest as the caller hears it
        assert t.audio == tone(0.8) + END


async def test_an_interruption_cuts_off_all_that_is_unheard(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(3.0), TTSStoppedFrame())
        await t.link.until(lambda: len(t.audio) >= 0.3 * RATE * 2)
        await t.bot.say(InterruptionFrame())
        await t.link.until(lambda: t.said("clear"))
        cleared = len(t.link.said)
        await until(lambda: t.bot.ear.of(BotStoppedSpeakingFrame), PATIENCE)
        again = speech(0.1)
        await t.bot.say(again, TTSStoppedFrame())
        await t.link.until(lambda: t.said("mark"))
        after = b"".join(said for said in t.link.said[cleared:] if isinstance(said, bytes))
        assert after == again.audio + END  # nothing of the old speech behind the clear


@pytest.mark.skipif(not hasattr(InterruptionFrame(), "interruptible"), reason="this Pipecat has no such frames")
async def test_what_must_not_be_interrupted_is_heard_whole(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        warning = speech(0.5)
        warning.interruptible = False
        await t.bot.say(warning, TTSStoppedFrame())
        await t.link.until(lambda: len(t.audio) >= 0.2 * RATE * 2)
        await t.bot.say(InterruptionFrame())
        await t.link.until(lambda: t.audio == warning.audio + END)
        assert not t.said("clear")


async def test_keys_go_both_ways(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        for digit in "1D#":
            t.link.tell(pcm.Dtmf(digit))
        await until(lambda: len(t.bot.ear.of(InputDTMFFrame)) == 2, PATIENCE)
        assert [f.button for f in t.bot.ear.of(InputDTMFFrame)] == [KeypadEntry.ONE, KeypadEntry.POUND]
        await t.bot.say(speech(0.1), OutputDTMFFrame(buttons=[KeypadEntry.FOUR, KeypadEntry.STAR]))
        await t.link.until(lambda: t.said("dtmf"))
        assert t.said("dtmf") == [{"type": "dtmf", "digits": "4*"}] and t.audio == tone(0.1)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"event": "mark", "streamSid": "MZ1", "mark": {"name": "a"}}, [{"type": "mark", "name": "a"}]),
        ({"event": "checkpoint", "streamId": "1", "name": "a"}, [{"type": "mark", "name": "a"}]),
        ({"event": "clearAudio", "streamId": "1"}, [{"type": "clear"}]),
        ({"type": "bot-ready", "label": "rtvi-ai"}, []),
        ({"event": "mark", "mark": None}, []),
        ("text", []),
    ],
)
async def test_a_carriers_own_marks_and_clears_are_obeyed(tmp_path: Path, message: Any, said: list[Any]) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(OutputTransportMessageFrame(message=message), OutputDTMFFrame(buttons=[KeypadEntry.ONE]))
        await t.link.until(lambda: t.said("dtmf"))
        assert t.link.said == [{"type": "ready"}, *said, {"type": "dtmf", "digits": "1"}]


async def test_an_end_frame_hangs_up_behind_the_last_word(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(0.3), TTSStoppedFrame(), EndFrame())
        await t.link.until(lambda: t.said("hangup"))
        assert t.audio == tone(0.3) + END  # no 2 s of silence behind it
        assert not t.bot.ear.of(BotStoppedSpeakingFrame) and t.link.ended is None
        t.link.tell(pcm.MarkReached(t.said("mark")[0]["name"], True))
        assert await t.link.end() == 1000
        assert t.bot.ear.of(BotStoppedSpeakingFrame)
        assert t.bot.told == ["connected"]  # it has hung up itself


async def test_a_cancel_frame_hangs_up_at_once(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(3.0))
        await t.link.until(lambda: t.audio)
        await t.bot.worker.cancel()
        assert await t.link.end() == 1000
        kinds = [said["type"] for said in t.link.said if isinstance(said, dict)]
        assert kinds == ["ready", "clear", "hangup"]


async def test_the_callers_hang_up_is_told_and_nothing_more_is_said(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(3.0))
        await t.link.until(lambda: t.audio)
        t.link.tell(pcm.Stop("caller_hangup"))
        assert await t.link.end() == 1000
        assert t.bot.told == ["connected", "disconnected"]
        assert t.bot.sockets[1].client_state.name == "DISCONNECTED"
        assert not t.said("hangup") and not t.said("clear")


async def test_a_bot_hears_nothing_of_its_calls_move(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(speech(1.0), TTSStoppedFrame())
        await t.link.until(lambda: len(t.audio) >= 0.4 * RATE * 2)
        heard = t.audio
        t.link.socket.abort()
        await until(lambda: t.link.ended is not None, PATIENCE)
        await asyncio.sleep(0.4)  # longer than what was handed over lasts: the rest waits for the caller
        t.link = await t.redial(2)
        await t.link.until(lambda: t.said("mark"))
        lost = len(tone(1.0) + END) - len(heard) - len(t.audio)
        assert 0 <= lost <= FRAME  # but for the frame that was on the broken link
        assert (tone(1.0) + END).endswith(t.audio)
        await until(lambda: t.bot.events, PATIENCE)
        assert [event.status for event in t.bot.events] == ["reattached"]
        assert t.bot.told == ["connected"]


async def test_another_rate_than_the_links_passes_a_filter_of_2_ms(tmp_path: Path) -> None:
    async with talk(tmp_path, echo=True, rates=(8000, 24000)) as t:
        caller = tone(0.5)
        for at in range(0, len(caller), FRAME):
            t.link.socket.send(caller[at : at + FRAME])
        await t.link.until(lambda: len(t.audio) >= len(caller) - 3 * FRAME)
        frames = t.bot.ear.of(InputAudioRawFrame)
        assert {frame.sample_rate for frame in frames} == {8000}
        heard = np.frombuffer(t.audio, np.int16).astype(float)
        said = np.frombuffer(caller, np.int16).astype(float)
        lags = [float(heard[lag : lag + 4000] @ said[:4000]) for lag in range(400)]
        assert np.argmax(lags) < 0.007 * RATE


async def test_the_end_of_speech_at_another_rate_is_not_lost(tmp_path: Path) -> None:
    async with talk(tmp_path, rates=(RATE, RATE), link_rate=8000) as t:
        frame = TTSAudioRawFrame(tone(0.25, 24000), 24000, 1)
        await t.bot.say(frame, TTSStoppedFrame())
        await t.link.until(lambda: t.said("mark"))
        assert 0.25 <= len(t.audio) / 2 / 8000 <= 0.285  # rounded up to whole chunks of 20 ms


async def test_the_last_part_of_a_chunk_is_heard_without_the_end_of_speech_too(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await t.bot.say(OutputAudioRawFrame(tone(0.015), RATE, 1), EndFrame())
        await t.link.until(lambda: t.said("hangup"))
        assert t.audio == tone(0.015) + bytes(FRAME - len(tone(0.015)))


async def test_a_session_timeout_and_the_marks_of_the_bot_are_told(tmp_path: Path) -> None:
    async with talk(tmp_path, params={"session_timeout": 1}) as t:
        t.bot.transport.call.mark("mine")
        await t.link.until(lambda: t.said("mark"))
        t.link.tell(pcm.MarkReached("mine", True))
        await until(lambda: t.bot.events, PATIENCE)
        assert t.bot.events[0].name == "mine"
        await until(lambda: "timeout" in t.bot.told, PATIENCE)
        assert t.bot.told == ["connected", "timeout"]


async def test_a_carrier_without_parameters_is_named(tmp_path: Path) -> None:
    said: list[str] = []

    async def bot(call: Call) -> None:
        try:
            await create_transport(runner_arguments(call), {"plivo": lambda: None})
        except ValueError as e:
            said.append(str(e))

    async with served(tmp_path, bot) as slot:
        link = await Link(RATE, PATIENCE).dial(f"unix:{slot.path}", KEY, "s1", 1)
        link.tell(pcm.Start("s1", "a.b", "twilio", 1, CALL, RATE))
        assert await link.end() == 1000
    assert said == ["transport_params has no 'twilio': add what it has for its other carriers under that key"]


BENCH = Path(__file__).parents[1] / "bench" / "bots"


def test_the_bot_without_that_import_is_relayed() -> None:
    """In a process of its own: here our transport is imported already."""
    asked = f"from gateway.worker.bot_loader import load; print(load({str(BENCH / 'pipecat_echo.py')!r}).protocol)"
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert run.stdout.split()[-1:] == ["relay"], run.stderr


async def test_one_changed_import_is_served_by_pcm(tmp_path: Path) -> None:
    bot = load(str(BENCH / "pipecat_echo_pcm.py"))
    assert bot.protocol == "pcm"
    async with served(tmp_path, bot) as slot:
        link = await TimedLink().dial(f"unix:{slot.path}", KEY, "s1", 1)
        link.tell(pcm.Start("s1", "a.b", "twilio", 1, CALL, RATE))
        await link.echoes(tone(0.02))
        link.tell(pcm.Stop("caller_hangup"))
        assert await link.end() == 1000
