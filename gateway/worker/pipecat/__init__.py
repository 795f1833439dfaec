"""Serves Pipecat bots over the pcm protocol, for one changed import line in the bot.

    from gateway.worker.pipecat import create_transport  # was: from pipecat.runner.utils import create_transport

The gateway decodes and resamples, plays and reports what was heard; the bot keeps its pipeline. Under Pipecat's own
runner the same file gets Pipecat's own transport. Pipecat is the user's: nothing else here imports it.
"""

from gateway.worker.pipecat.arguments import runner_arguments
from gateway.worker.pipecat.transport import GatewayTransport, create_transport

__all__ = ["GatewayTransport", "create_transport", "runner_arguments"]
