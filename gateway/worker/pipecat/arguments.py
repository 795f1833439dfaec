"""What a Pipecat bot is called with: its runner's arguments, with what stands for the WebSocket."""

from __future__ import annotations

from typing import Any

from pipecat.runner import types

from gateway.worker.api import Call

PARSED = "_pipecat_parsed_telephony"
"""Where `parse_telephony_websocket` of newer versions keeps what it has found, and looks first (private). A bot that
calls it by itself finds what we know; with an older Pipecat it has `runner_args.call_data`."""


class CallSocket:
    """Stands for the WebSocket of a call that is served over the pcm protocol: names the call, carries nothing.

    call: for what Pipecat has no frame for: `transfer`, `save_state`, `pause_recording`.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.headers: dict[str, str] = {}
        self.query_params: dict[str, str] = {}

    @property
    def client_state(self) -> Any:
        """Starlette's word for whether there is still a caller."""
        from pipecat.transports.websocket.fastapi import WebSocketState

        return WebSocketState.DISCONNECTED if self.call.end_reason else WebSocketState.CONNECTED

    application_state = client_state

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """End the call, behind what was said."""
        self.call.hangup(reason or "")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"this call has no carrier's WebSocket to `{name}`: build the transport by create_transport of "
            "gateway.worker.pipecat, or import Pipecat's to get the carrier's own messages"
        )


def runner_arguments(call: Call) -> types.WebSocketRunnerArguments:
    """Make the arguments of `bot(runner_args)`: as Pipecat's runner has them after `create_transport`, or fuller."""
    websocket, data = CallSocket(call), _call_data(call)
    arguments = types.WebSocketRunnerArguments(websocket=websocket, body=dict(call.data.body))
    for name, value in {
        "transport_type": call.data.carrier,
        "call_data": data,
        "session_id": call.session_id,
        "cli_args": None,
    }.items():
        setattr(arguments, name, value)  # not to the constructor: older versions do not know all of them
    setattr(websocket, PARSED, (call.data.carrier, data))
    return arguments


def _call_data(call: Call) -> Any:
    """Return what we know of the call, in the class that Pipecat has for its carrier; a dict before it had any."""
    fields = call.data.wire()
    usual = getattr(types, "CallData", None)
    if usual is None:
        return fields
    return getattr(types, f"{call.data.carrier.capitalize()}CallData", usual).model_validate(fields)
