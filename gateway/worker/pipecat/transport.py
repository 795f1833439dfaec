"""Pipecat's transport of a call that is served over the pcm protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipecat.transports.base_transport import BaseTransport

from gateway.worker.api import Call, Event, Status
from gateway.worker.pipecat.arguments import CallSocket
from gateway.worker.pipecat.client import CallClient
from gateway.worker.pipecat.input import GatewayInputTransport
from gateway.worker.pipecat.output import GatewayOutputTransport

EVENTS = ("on_client_connected", "on_client_disconnected", "on_session_timeout", "on_call_event")
CHUNKS = 2
"""Times 10 ms: what is written at once, where the bot does not say. A frame of the caller's is as long; an echo would
wait for two of them with Pipecat's 4."""
WRITE_TIMEOUT = 60.0
"""Seconds. A link that is lost may take 15 to come back: Pipecat would take it for dead at 10."""


class GatewayTransport(BaseTransport):
    """As Pipecat's FastAPIWebsocketTransport, with the gateway in place of a serializer.

    Event handlers: `on_client_connected`, `on_client_disconnected` and `on_session_timeout`, called with the transport
    and `runner_args.websocket`; and `on_call_event`, with the transport and what Pipecat has no frame for: a
    gateway.worker `Status` (a refused transfer, say), or a `Mark` that the bot has set by `transport.call`.
    """

    def __init__(self, socket: CallSocket, params: Any, input_name: str | None = None, output_name: str | None = None):
        super().__init__(input_name=input_name, output_name=output_name)
        self._socket = socket
        client = CallClient(socket.call, self)
        params = _fitted(params)
        self._input = GatewayInputTransport(self, client, params, name=self._input_name)
        self._output = GatewayOutputTransport(self, client, params, name=self._output_name)
        for event in EVENTS:
            self._register_event_handler(event)

    @property
    def call(self) -> Call:
        """The call, for what Pipecat has no frame for: `transfer`, `save_state`, `pause_recording`."""
        return self._socket.call

    def input(self) -> GatewayInputTransport:
        """The half that hears."""
        return self._input

    def output(self) -> GatewayOutputTransport:
        """The half that speaks."""
        return self._output

    def get_client_id(self, client: Any) -> str:
        """The carrier's id of the call."""
        return self.call.data.call_id or ""

    # What the input half and the client tell.

    async def connected(self) -> None:
        """The caller is there."""
        await self._call_event_handler("on_client_connected", self._socket)

    async def timed_out(self) -> None:
        """The session lasts as long as the bot allows."""
        await self._call_event_handler("on_session_timeout", self._socket)

    async def heard(self, pcm: bytes) -> None:
        """The caller says something."""
        await self._input.heard(pcm)

    async def pressed(self, digit: str) -> None:
        """The caller presses a key."""
        await self._input.pressed(digit)

    async def reached(self, mark: str) -> None:
        """A mark of our own was heard, or never will be."""
        await self._output.reached(mark)

    async def noted(self, event: Event) -> None:
        """Something happens that Pipecat has no frame for."""
        if isinstance(event, Status) and event.status == Status.REATTACHED:
            await self._output.lost()
        await self._call_event_handler("on_call_event", event)

    async def ended(self) -> None:
        """The caller is gone."""
        await self._output.lost()
        await self._call_event_handler("on_client_disconnected", self._socket)


async def create_transport(runner_args: Any, transport_params: Mapping[str, Callable[[], Any]]) -> Any:
    """Create the transport of a call, as `pipecat.runner.utils.create_transport` does, and with its arguments.

    Raises ValueError if the carrier's key is missing in `transport_params`. For arguments that are not the gateway's
    the transport is Pipecat's own.
    """
    socket = getattr(runner_args, "websocket", None)
    if not isinstance(socket, CallSocket):
        from pipecat.runner.utils import create_transport as create_pipecats

        return await create_pipecats(runner_args, transport_params)
    carrier = socket.call.data.carrier
    if carrier not in transport_params:
        raise ValueError(f"transport_params has no {carrier!r}: add what it has for its other carriers under that key")
    return GatewayTransport(socket, transport_params[carrier]())


def _fitted(params: Any) -> Any:
    """Set what the bot has not. No silence at the end: the gateway knows when the caller has heard the last word."""
    for name, value in (("audio_out_10ms_chunks", CHUNKS), ("audio_out_end_silence_secs", 0)):
        if name not in params.model_fields_set:
            setattr(params, name, value)
    if hasattr(params, "audio_out_write_timeout_secs"):
        params.audio_out_write_timeout_secs = max(params.audio_out_write_timeout_secs, WRITE_TIMEOUT)
    return params
