"""What both of the benchmark's Pipecat bots do with their transport, at 16 kHz: say back what they hear.

From the first key on they say sentences of their own instead, each as a voice service does: faster than it is spoken.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

from gateway.audio.files import convert
from tests.bench.bots.sentences import PAUSE, SENTENCES

RATE = 16000
TRANSPORT_PARAMS = {"twilio": lambda: FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True)}


UTTERANCES = [convert(one, 8000, RATE).tobytes() for one in SENTENCES]


class Echo(FrameProcessor):
    def __init__(self) -> None:
        super().__init__()
        self.saying: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame) and self.saying is None:
            self.saying = self.create_task(self.say())
        if isinstance(frame, InputAudioRawFrame):
            if self.saying is not None:
                return
            frame = OutputAudioRawFrame(audio=frame.audio, sample_rate=frame.sample_rate, num_channels=1)
        await self.push_frame(frame, direction)

    async def say(self) -> None:
        for audio in UTTERANCES:
            for frame in (TTSStartedFrame(), TTSAudioRawFrame(audio, RATE, 1), TTSStoppedFrame()):
                await self.push_frame(frame)
            await asyncio.sleep(len(audio) / 2 / RATE + PAUSE)

    async def cleanup(self) -> None:
        await super().cleanup()
        if self.saying is not None and not self.saying.done():
            await self.cancel_task(self.saying)


async def run_bot(transport: Any, runner_args: Any) -> None:
    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: Any, client: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()
