"""A Pipecat bot that speaks as soon as its caller is there, with Pipecat's own transport."""

from __future__ import annotations

from typing import Any

from pipecat.frames.frames import TTSAudioRawFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.workers.runner import WorkerRunner

from tests.bench.bots import pipecat_echo  # noqa: F401  its stand-in for Twilio's REST
from tests.bench.bots.pipecat_body import RATE, TRANSPORT_PARAMS, UTTERANCES


async def bot(runner_args: RunnerArguments) -> None:
    await greet(await create_transport(runner_args, TRANSPORT_PARAMS), runner_args)


async def greet(transport: Any, runner_args: Any) -> None:
    worker = PipelineWorker(
        Pipeline([transport.input(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: Any, client: Any) -> None:
        await worker.queue_frames([TTSStartedFrame(), TTSAudioRawFrame(UTTERANCES[0], RATE, 1), TTSStoppedFrame()])

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: Any, client: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
