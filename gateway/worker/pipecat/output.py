"""What the bot says, presses and ends, from Pipecat's frames.

Pipecat's base class writes audio chunk by chunk, and takes for heard what was written. The gateway plays it, and may
hold as much as it is given: but what it has, a lost gateway loses, and what the pipeline takes for heard is what the
bot remembers to have said. So we hand over LEAD of it ahead, and keep the rest here.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from gateway.audio.resample import Resampler, resampler
from gateway.worker.pipecat.client import OUR_MARK, CallClient

LEAD = 0.2
"""Seconds that the caller has still to hear when more is handed over: what the gateway keeps at the carrier
(`playout_lead_ms`). A bot that stands still for less is not heard to."""
MIXER_LEAD = 0.06
"""The same where a mixer plays without a pause: speech stands behind what it has handed over."""
FILTERS = 0.005
"""Seconds of silence behind speech, at least: more than the delay of the two filters, ours and the gateway's."""
MARK_PATIENCE = 2.0
"""Seconds beyond the expected end after which speech counts as heard without its mark."""


class GatewayOutputTransport(BaseOutputTransport):
    """Plays to the caller; says that the bot has stopped speaking when the caller has heard it all."""

    def __init__(self, transport: Any, client: CallClient, params: Any, **names: Any) -> None:
        super().__init__(params, **names)
        self._transport = transport
        self._client = client
        self._call = client.call
        self._lead = MIXER_LEAD if params.audio_out_mixer else LEAD
        self._heard_at = 0.0
        """When the caller will have heard all that was handed over, by our clock."""
        self._silenced = asyncio.Event()
        """Nothing is left to be heard."""
        self._protected_until = 0.0
        """The same, of what must not be interrupted."""
        self._newest_cut = 0
        """Frames with lower numbers were cut off by an interruption."""
        self._cutting = False
        self._marks = 0
        self._unmarked = False
        """Audio was handed over since the last mark."""
        self._held: list[tuple[Frame, FrameDirection]] = []
        self._held_until = asyncio.Event()
        self._holding: asyncio.Task[None] | None = None
        self._resampling: tuple[int, Resampler] | None = None
        self._last: OutputAudioRawFrame | None = None
        """Of the speech that goes on."""
        self._part = 0
        """Bytes of it beyond whole chunks."""

    async def start(self, frame: StartFrame) -> None:
        """Be ready to speak."""
        await super().start(frame)
        self._client.join(self)
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Say what is left, and hang up when the caller has heard it."""
        await super().stop(frame)
        if not self._client.over:
            self._client.leaving = True
            self._call.hangup()
        if self._holding is not None:
            await self._holding
        self._client.leave(self)

    async def cancel(self, frame: CancelFrame) -> None:
        """Hang up at once."""
        await super().cancel(frame)
        if not self._client.over:
            self._client.leaving = True
            self._call.clear()
            self._call.hangup()
        await self._leave()

    async def cleanup(self) -> None:
        """Leave nothing behind, however the pipeline has ended."""
        await super().cleanup()
        await self._leave()
        await self._transport.cleanup()

    async def _leave(self) -> None:
        self._held.clear()
        holding, self._holding = self._holding, None
        if holding is not None and not holding.done():
            await self.cancel_task(holding)
        self._client.leave(self)

    # Audio.

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take a frame; audio of another rate through a filter of 2 ms, where the base class has one of 100."""
        if isinstance(frame, InterruptionFrame):
            await self._interrupt(frame, direction)
            return
        if isinstance(frame, OutputAudioRawFrame):
            frame = await self._at_own_rate(frame, direction)
            self._last, self._part = frame, (self._part + len(frame.audio)) % (self.audio_chunk_size or 1)
        elif isinstance(frame, TTSStoppedFrame | EndFrame):
            await self._finish_speech(direction)
        await super().process_frame(frame, direction)

    async def _at_own_rate(self, frame: OutputAudioRawFrame, direction: FrameDirection) -> OutputAudioRawFrame:
        if self._resampling is not None and self._resampling[0] != frame.sample_rate:
            await self._finish_speech(direction)
        if frame.sample_rate == self.sample_rate or not self.sample_rate:
            return frame
        if self._resampling is None:
            self._resampling = frame.sample_rate, resampler(frame.sample_rate, self.sample_rate)
        return self._with_audio(frame, self._resampling[1].process(np.frombuffer(frame.audio, np.int16)).tobytes())

    async def _finish_speech(self, direction: FrameDirection) -> None:
        """Play what is still in the filter, and a last chunk that is not full: both belong to what was said so far.

        The base class fills that chunk only in newer versions, and not at an EndFrame. Some silence always: it drives
        the last samples out of the filters on their way.
        """
        if self._last is None:
            return
        end = self._resampling[1].flush().tobytes() if self._resampling is not None else b""
        silence = -(self._part + len(end)) % self.audio_chunk_size
        if silence < FILTERS * 2 * self.sample_rate:
            silence += self.audio_chunk_size
        end += bytes(silence)
        last = self._last
        self._forget_speech()
        if end:
            await super().process_frame(self._with_audio(last, end), direction)

    def _forget_speech(self) -> None:
        self._last, self._part, self._resampling = None, 0, None

    def _with_audio(self, frame: OutputAudioRawFrame, audio: bytes) -> OutputAudioRawFrame:
        ours = copy.copy(frame)  # others may keep the frame
        ours.audio, ours.sample_rate, ours.num_frames = audio, self.sample_rate, len(audio) // 2
        return ours

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Hand a chunk over, when the caller has LEAD or less to hear. False: they will not hear it."""
        loop = asyncio.get_running_loop()
        interruptible = getattr(frame, "interruptible", True)
        if (due := self._heard_at - self._lead) > loop.time():
            self._silenced.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._silenced.wait()
        if self._client.over or (interruptible and frame.id < self._newest_cut):
            return False
        await self._call.play(frame.audio, frame.sample_rate)  # waits for a link that is lost
        self._unmarked = True
        seconds = len(frame.audio) / 2 / frame.num_channels / frame.sample_rate
        self._heard_at = max(self._heard_at, loop.time()) + seconds
        if not interruptible:
            self._protected_until = self._heard_at
        return not self._client.over

    async def _interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Drop what Pipecat has still to write, then what the caller has still to hear.

        Not while they hear what must not be interrupted: a clear cannot spare it.
        """
        self._cutting = asyncio.get_running_loop().time() >= self._protected_until
        self._forget_speech()
        try:
            await super().process_frame(frame, direction)
        finally:
            cut, self._cutting = self._cutting, False
        # What is numbered below may be in the hands of the task that writes: it has left the queue already.
        self._newest_cut = OutputAudioRawFrame(audio=b"", sample_rate=self.sample_rate, num_channels=1).id
        if cut:
            self._call.clear()
            await self.lost()

    # Truthful ends.

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push a frame; that the bot has stopped speaking, when the caller has heard it."""
        if isinstance(frame, BotStartedSpeakingFrame):
            await self._release()
        elif isinstance(frame, BotStoppedSpeakingFrame) and self._unheard:
            self._hold(frame, direction)
            return
        await super().push_frame(frame, direction)

    @property
    def _unheard(self) -> bool:
        """The caller has still to hear something, and will."""
        return not self._cutting and not self._client.over and (self._unmarked or bool(self._held))

    def _hold(self, frame: Frame, direction: FrameDirection) -> None:
        self._held.append((frame, direction))
        if self._unmarked:  # the first of the two, down and up
            self._unmarked = False
            self._marks += 1
            self._held_until.clear()
            self._call.mark(f"{OUR_MARK}{self._marks}")
            if self._holding is None or self._holding.done():
                self._holding = self.create_task(self._hold_until_heard())

    async def _hold_until_heard(self) -> None:
        while self._held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(self._heard_at, asyncio.get_running_loop().time()) + MARK_PATIENCE):
                    await self._held_until.wait()
            await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, []
        self._held_until.set()
        for frame, direction in held:
            await super().push_frame(frame, direction)

    async def reached(self, mark: str) -> None:
        """Take the news that a mark of ours was heard, or never will be."""
        if mark == f"{OUR_MARK}{self._marks}":
            await self._release()

    async def lost(self) -> None:
        """Take the news that what was handed over has been heard, or never will be."""
        self._heard_at, self._unmarked = 0.0, False
        self._silenced.set()
        await self._release()

    # Messages and keys.

    async def send_message(self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame) -> None:
        """Obey what a bot writes to a carrier itself, a mark or a clear. All else is for browsers."""
        match frame.message:
            case {"event": "mark", "mark": {"name": str(name)}} | {"event": "checkpoint", "name": str(name)}:
                self._call.mark(name)
            case {"event": "clear" | "clearAudio"}:
                self._call.clear()
                await self.lost()

    def _supports_native_dtmf(self) -> bool:
        return True

    async def _write_dtmf_native(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        buttons = getattr(frame, "buttons", None) or [frame.button]
        self._call.send_dtmf("".join(button.value for button in buttons))
