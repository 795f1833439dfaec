"""What the caller says and presses, as Pipecat's frames."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport

from gateway.audio.resample import Resampler, resampler
from gateway.worker.pipecat.client import CallClient

KEYS = {key.value: key for key in KeypadEntry}


class GatewayInputTransport(BaseInputTransport):
    """Pushes the caller's audio, as it comes, in about 20 ms each; and their keys."""

    def __init__(self, transport: Any, client: CallClient, params: Any, **names: Any) -> None:
        super().__init__(params, **names)
        self._transport = transport
        self._client = client
        self._listening = False
        self._timeout: asyncio.Task[None] | None = None
        self._resampler: Resampler | None = None

    async def start(self, frame: StartFrame) -> None:
        """Let the caller be heard."""
        await super().start(frame)
        rate = self._client.call.sample_rate
        # The pipeline's models were made for its rate. A service with that `sample_rate` does without this filter.
        self._resampler = resampler(rate, self.sample_rate) if self.sample_rate != rate else None
        seconds = getattr(self._params, "session_timeout", None)
        if seconds and self._timeout is None:
            self._timeout = self.create_task(self._time_out(seconds))
        await self._transport.connected()
        await self.push_frame(ClientConnectedFrame())
        await self.set_transport_ready(frame)
        self._listening = True
        self._client.join(self)

    async def stop(self, frame: EndFrame) -> None:
        """Listen no more; the output half may still speak."""
        self._listening = False
        self._client.leaving = True
        await super().stop(frame)
        await self._leave()

    async def cancel(self, frame: CancelFrame) -> None:
        """Listen no more."""
        self._listening = False
        self._client.leaving = True
        await super().cancel(frame)
        await self._leave()

    async def cleanup(self) -> None:
        """Leave nothing behind, however the pipeline has ended."""
        self._listening = False
        await super().cleanup()
        await self._leave()
        await self._transport.cleanup()

    async def heard(self, pcm: bytes) -> None:
        """Push what the caller says."""
        if not self._listening:
            return
        if self._resampler is not None:
            pcm = self._resampler.process(np.frombuffer(pcm, np.int16)).tobytes()
        await self.push_audio_frame(InputAudioRawFrame(audio=pcm, sample_rate=self.sample_rate, num_channels=1))

    async def pressed(self, digit: str) -> None:
        """Push a key. Pipecat knows no A-D."""
        if self._listening and digit in KEYS:
            await self.push_frame(InputDTMFFrame(button=KEYS[digit]))

    async def _leave(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            await self.cancel_task(timeout)
        self._client.leave(self)

    async def _time_out(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._transport.timed_out()
