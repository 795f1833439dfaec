"""A relayed call's WebSocket: Starlette's, with what the gateway knows of the call.

Starlette is of the bot's environment: this module is imported when a call comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket

from gateway.worker.asgi_link import AsgiLink


class CallWebSocket(WebSocket):
    """See the module's docstring.

    known: `from`, `to`, `body`: what the carrier's handshake may not have.
    """

    def __init__(self, scope: dict[str, Any], call: AsgiLink, known: Mapping[str, Any]) -> None:
        super().__init__(scope, call.receive, call.send)
        self._known = known
        self._parsed: Any = None

    @property
    def _pipecat_parsed_telephony(self) -> Any:
        """Where `parse_telephony_websocket` keeps what it has found, and looks first (private, since Pipecat 1.4).

        `create_transport` makes `call_data` of it, whatever that was before. So it is made fuller as it is put here; an
        older Pipecat keeps nothing, and finds what is on the wire.
        """
        return self._parsed

    @_pipecat_parsed_telephony.setter
    def _pipecat_parsed_telephony(self, value: Any) -> None:
        self._parsed = value
        if isinstance(value, tuple) and len(value) == 2:
            with contextlib.suppress(AttributeError, TypeError, ValueError):  # of a version that we have not seen
                self._fill(value[1])

    def _fill(self, data: Any) -> None:
        """Fill what the handshake has not said."""
        data.from_number = data.from_number or self._known.get("from")
        data.to_number = data.to_number or self._known.get("to")
        body = self._known.get("body")
        if isinstance(body, Mapping):
            data.body = {**body, **data.body}
