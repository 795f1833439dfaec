"""A Pipecat bot with Pipecat's own transport: under its runner, and behind the gateway by `relay`."""

from __future__ import annotations

import os

from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.serializers.twilio import TwilioFrameSerializer

from tests.bench.bots.pipecat_body import TRANSPORT_PARAMS, run_bot

os.environ.update(TWILIO_ACCOUNT_SID="AC1", TWILIO_AUTH_TOKEN="none")  # the serializer wants some


async def no_rest(_: TwilioFrameSerializer) -> None:
    """Hang up nothing: there is no Twilio."""


TwilioFrameSerializer._hang_up_call = no_rest


async def bot(runner_args: RunnerArguments) -> None:
    await run_bot(await create_transport(runner_args, TRANSPORT_PARAMS), runner_args)


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
