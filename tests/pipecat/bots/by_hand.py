"""A bot as Pipecat's telephony examples write it: it reads the handshake, and makes serializer and transport by hand.

Its argument has no annotation, and its pipeline is pinned to the line's 8 kHz.
"""

import os

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from services import Echo, Keys, Speech, note, note_arguments


async def run_bot(transport, handle_sigint, kind, call_id, stream_id):
    speech = Speech(call_id)
    keys = Keys(speech, call_id, kind, stream_id)

    pipeline = Pipeline(
        [
            transport.input(),  # Websocket input from client
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            Echo(speech),
            keys,
            speech,
            transport.output(),  # Websocket output to client
        ]
    )

    task = PipelineTask(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=8000,
            audio_out_sample_rate=8000,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
    )
    keys.worker = task

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport, client):
        note(call_id, "connected")

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport, client):
        note(call_id, "disconnected")
        await task.cancel()

    runner = PipelineRunner(handle_sigint=handle_sigint)
    await runner.run(task)
    note(call_id, "end")


async def bot(runner_args):
    """Main bot entry point compatible with Pipecat Cloud."""
    kind, call_data = await parse_telephony_websocket(runner_args.websocket)
    logger.info(f"Auto-detected transport: {kind}")
    note_arguments(runner_args, kind, call_data)
    call_id = call_data.get("call_id") or call_data.get("call_control_id")

    # whoever moves the call must not hang it up as the pipeline ends
    stays = not (runner_args.body or {}).get("moves")

    if kind == "twilio":
        serializer = TwilioFrameSerializer(
            stream_sid=call_data["stream_id"],
            call_sid=call_data["call_id"],
            account_sid=os.getenv("TWILIO_ACCOUNT_SID", ""),
            auth_token=os.getenv("TWILIO_AUTH_TOKEN", ""),
            params=TwilioFrameSerializer.InputParams(auto_hang_up=stays),
        )
    elif kind == "telnyx":
        serializer = TelnyxFrameSerializer(
            stream_id=call_data["stream_id"],
            call_control_id=call_id,
            outbound_encoding=call_data["outbound_encoding"],
            inbound_encoding="PCMU",
            api_key=os.getenv("TELNYX_API_KEY", ""),
            params=TelnyxFrameSerializer.InputParams(auto_hang_up=stays),
        )
    elif kind == "plivo":
        serializer = PlivoFrameSerializer(
            stream_id=call_data["stream_id"],
            call_id=call_data["call_id"],
            auth_id=os.getenv("PLIVO_AUTH_ID", ""),
            auth_token=os.getenv("PLIVO_AUTH_TOKEN", ""),
            params=PlivoFrameSerializer.InputParams(auto_hang_up=stays),
        )
    else:
        serializer = ExotelFrameSerializer(stream_sid=call_data["stream_id"], call_sid=call_data["call_id"])

    transport = FastAPIWebsocketTransport(
        websocket=runner_args.websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            serializer=serializer,
        ),
    )
    await run_bot(transport, runner_args.handle_sigint, kind, call_id, call_data["stream_id"])


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
