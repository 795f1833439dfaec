"""The same bot with the gateway's transport."""

from __future__ import annotations

from pipecat.runner.types import RunnerArguments

from gateway.worker.pipecat import create_transport
from tests.bench.bots.pipecat_body import TRANSPORT_PARAMS
from tests.bench.bots.pipecat_hello import greet


async def bot(runner_args: RunnerArguments) -> None:
    await greet(await create_transport(runner_args, TRANSPORT_PARAMS), runner_args)
