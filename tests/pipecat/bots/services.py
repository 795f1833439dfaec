"""Local stand-ins for what a bot buys: speech in and out, and the carriers' REST APIs. All else of the bots is Pipecat.

The caller leads the bot by keys: 5 makes it speak, 8 send a mark, 9 hang up, 3 move the call, 0 die without a word.
"""

from __future__ import annotations

import json
import os
import re
import time
import wave
from pathlib import Path
from typing import Any

import aiohttp
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

HERE = Path(__file__).parent
REST = HERE / "rest_url"
"""A file: where the carriers' APIs are, for this machine."""
NOTES = HERE / "bot.jsonl"
MARKS = {
    "twilio": {"event": "mark", "streamSid": "{}", "mark": {"name": "said"}},
    "telnyx": {"event": "mark", "mark": {"name": "said"}},
    "plivo": {"event": "checkpoint", "streamId": "{}", "name": "said"},
    "exotel": {"event": "mark", "stream_sid": "{}", "mark": {"name": "said"}},
}


PERSON = "+15550190009"


def _twilio(call_id: str) -> tuple[str, dict[str, Any]]:
    account = os.environ.get("TWILIO_ACCOUNT_SID", "")
    login = aiohttp.BasicAuth(account, os.environ.get("TWILIO_AUTH_TOKEN", ""))
    url = f"https://api.twilio.com/2010-04-01/Accounts/{account}/Calls/{call_id}.json"
    return url, {"auth": login, "data": {"Twiml": f"<Response><Dial>{PERSON}</Dial></Response>"}}


def _telnyx(call_id: str) -> tuple[str, dict[str, Any]]:
    login = {"Authorization": f"Bearer {os.environ.get('TELNYX_API_KEY', '')}"}
    return f"https://api.telnyx.com/v2/calls/{call_id}/actions/transfer", {"headers": login, "json": {"to": PERSON}}


def _plivo(call_id: str) -> tuple[str, dict[str, Any]]:
    account = os.environ.get("PLIVO_AUTH_ID", "")
    login = aiohttp.BasicAuth(account, os.environ.get("PLIVO_AUTH_TOKEN", ""))
    move = {"legs": "aleg", "aleg_url": (HERE / "transfer_url").read_text(), "aleg_method": "GET"}
    return f"https://api.plivo.com/v1/Account/{account}/Call/{call_id}/", {"auth": login, "json": move}


MOVES = {"twilio": _twilio, "telnyx": _telnyx, "plivo": _plivo}
"""How each carrier's REST API moves a call. Exotel's has nothing of the kind."""


def _stay_here() -> None:
    """Send what Pipecat's serializers ask of the carriers' APIs to their stand-in."""
    asked = aiohttp.ClientSession._request

    async def local(self: aiohttp.ClientSession, method: str, url: Any, **more: Any) -> aiohttp.ClientResponse:
        return await asked(
            self, method, re.sub(r"^https://api\.(\w+)\.com", rf"{REST.read_text()}/\1", str(url)), **more
        )

    aiohttp.ClientSession._request = local  # type: ignore[method-assign]


_stay_here()


def note(call_id: str | None, what: str, **more: Any) -> None:
    """Write down one thing, in one write: the workers of one bot share the file."""
    said = {"call": call_id, "pid": os.getpid(), "what": what, "at": time.monotonic(), **more}
    handle = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{json.dumps(said, default=str)}\n".encode())
    os.close(handle)


def note_arguments(runner_args: Any, transport_type: str | None, call_data: Any) -> None:
    """Write down all that the bot was given."""
    facts = call_data if isinstance(call_data, dict) or call_data is None else call_data.model_dump(by_alias=True)
    call_id = (facts or {}).get("call_id") or (facts or {}).get("call_control_id")
    given = ("transport_type", "body", "session_id", "handle_sigint", "handle_sigterm", "pipeline_idle_timeout_secs")
    note(
        call_id, "start", transport=transport_type, call_data=facts, kind=type(runner_args).__name__,
        arguments={name: getattr(runner_args, name, "missing") for name in given},
        cli=getattr(runner_args, "cli_args", None) is not None,
    )  # fmt: skip


class Echo(FrameProcessor):
    """In place of speech-to-text, a model and text-to-speech: says what it hears, but for while the bot speaks."""

    def __init__(self, speech: Speech) -> None:
        super().__init__()
        self._speech = speech

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if not self._speech.speaking:
                await self.push_frame(
                    OutputAudioRawFrame(
                        audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
                    )
                )
            return
        await self.push_frame(frame, direction)


class Speech(FrameProcessor):
    """In place of text-to-speech: plays a file. A caller who begins to speak meanwhile interrupts it."""

    def __init__(self, call_id: str | None) -> None:
        super().__init__()
        self.speaking = False
        self._call_id = call_id
        with wave.open(str(HERE / "speech.wav"), "rb") as file:
            self._rate, self._audio = file.getframerate(), file.readframes(file.getnframes())

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and self.speaking:
            self.speaking = False
            note(self._call_id, "interrupted")
            await self.broadcast_interruption()
        await self.push_frame(frame, direction)

    async def say(self) -> None:
        self.speaking = True
        await self.push_frame(TTSAudioRawFrame(audio=self._audio, sample_rate=self._rate, num_channels=1))


class Keys(FrameProcessor):
    """Obeys the caller's keys."""

    def __init__(self, speech: Speech, call_id: str | None, transport: str | None, stream_id: str | None) -> None:
        super().__init__()
        self._speech = speech
        self._call_id, self._transport, self._stream_id = call_id, transport, stream_id
        self.worker: Any = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, (EndFrame, CancelFrame)):
            note(self._call_id, type(frame).__name__)
        await self.push_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame):
            note(self._call_id, "dtmf", digit=frame.button.value)
            await self._obey(frame.button.value)

    async def _obey(self, digit: str) -> None:
        if digit == "5":
            await self._speech.say()
        elif digit == "8":
            message = json.loads(json.dumps(MARKS[self._transport or "twilio"]).replace("{}", self._stream_id or ""))
            await self.push_frame(OutputTransportMessageUrgentFrame(message=message))
        elif digit == "9":
            await self.worker.queue_frame(EndFrame())
        elif digit == "3":
            await self._move()
            await self.worker.queue_frame(EndFrame())
        elif digit == "0":
            os._exit(1)

    async def _move(self) -> None:
        """Send the call to a person, as the carriers' guides to transfers do: the call leaves this stream."""
        url, request = MOVES[self._transport or "twilio"](self._call_id)
        async with aiohttp.ClientSession() as session, session.post(url, **request) as response:
            note(self._call_id, "moved", status=response.status)
