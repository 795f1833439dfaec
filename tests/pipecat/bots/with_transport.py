"""A bot as Pipecat's quick start writes it: `create_transport` finds out which carrier calls."""

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner
from services import Echo, Keys, Speech, note, note_arguments

transport_params = {
    "twilio": lambda: FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True),
    "telnyx": lambda: FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True),
    "plivo": lambda: FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True),
    "exotel": lambda: FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True),
}


async def run_bot(transport: BaseTransport, runner_args: RunnerArguments, facts: dict):
    logger.info("Starting bot")
    call_id, stream_id, kind = facts["call_id"], facts["stream_id"], facts["kind"]
    speech = Speech(call_id)
    keys = Keys(speech, call_id, kind, stream_id)

    pipeline = Pipeline(
        [
            transport.input(),
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            Echo(speech),
            keys,
            speech,
            transport.output(),
        ]
    )

    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )
    keys.worker = worker

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport, client):
        logger.info("Client connected")
        note(call_id, "connected")

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport, client):
        logger.info("Client disconnected")
        note(call_id, "disconnected")
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()
    note(call_id, "end")


async def bot(runner_args: RunnerArguments):
    """Main bot entry point compatible with Pipecat Cloud."""
    transport = await create_transport(runner_args, transport_params)
    call_data = getattr(runner_args, "call_data", None)  # since 1.5; before, the transport kept it
    kind = runner_args.transport_type
    if call_data is None:
        kind, call_data = remembered(transport)
    note_arguments(runner_args, kind, call_data)
    await run_bot(transport, runner_args, {"kind": kind, **ids(call_data)})


def ids(call_data) -> dict:
    return {
        "call_id": call_data.get("call_id") or call_data.get("call_control_id"),
        "stream_id": call_data["stream_id"],
    }


def remembered(transport: BaseTransport) -> tuple[str, dict]:
    """What the serializer was made with: an older Pipecat tells the bot no more."""
    serializer = transport._params.serializer
    kind = type(serializer).__name__.removesuffix("FrameSerializer").lower()
    mine = vars(serializer)
    call_id = mine.get("_call_sid") or mine.get("_call_control_id") or mine.get("_call_id")
    return kind, {"call_id": call_id, "stream_id": mine.get("_stream_sid") or mine.get("_stream_id")}


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
