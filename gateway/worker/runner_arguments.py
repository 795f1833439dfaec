"""The arguments that Pipecat's runner, or Pipecat Cloud's image, hands to a bot.

pipecat-ai, and Starlette with it, are of the bot's environment: they are imported when a call comes.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

import orjson

from gateway.protocol import pcm
from gateway.sockets import Upgrade
from gateway.worker.api import Call
from gateway.worker.asgi_link import AsgiLink
from gateway.worker.pipecat_style import OUR_TRANSPORT

NOT_FOR_BOTS = frozenset({"authorization", pcm.FENCE_HEADER, pcm.CALL_HEADER})
"""Headers of the upgrade that are between the gateway and the worker's process."""

CLIENT = "websocket"
"""What the gateway, and Pipecat's runner, call a client of the user's own, which is no carrier."""


def is_client(upgrade: Upgrade) -> bool:
    """Whether this is no carrier's call, but a client that speaks the bot's own wire."""
    return known_of(upgrade).get("carrier") == CLIENT


async def relayed_arguments(kind: type | None, upgrade: Upgrade, call: AsgiLink, session: str) -> Any:
    """Make the arguments for this call, with its WebSocket accepted.

    kind: their class, None for Pipecat's own.
    """
    from gateway.worker.call_websocket import CallWebSocket

    body = body_of(upgrade)
    websocket = CallWebSocket(_scope(upgrade), call, {**known_of(upgrade), "body": body})
    await websocket.accept()
    return make_arguments(kind, websocket, body, session, CLIENT if is_client(upgrade) else None)


def pcm_arguments(call: Call) -> Any:
    """Make the arguments for a bot whose transport is ours."""
    return import_module(OUR_TRANSPORT).runner_arguments(call)  # by name, as it imports Pipecat


def make_arguments(kind: type | None, websocket: Any, body: Any, session: str, transport: str | None = None) -> Any:
    """Fill the arguments as the runner does, as far as this version of Pipecat has them.

    transport: "websocket" for a client that is no carrier; None: the bot finds out which carrier it is.
    """
    if kind is None:
        from pipecat.runner.types import WebSocketRunnerArguments

        kind = WebSocketRunnerArguments
    assert kind is not None
    known = {"websocket": websocket, "transport_type": transport, "body": body, "session_id": session}
    after = {"handle_sigint": False, "handle_sigterm": False}
    names = {field.name: field.init for field in fields(kind)} if is_dataclass(kind) else dict.fromkeys(known, True)
    arguments = kind(**{name: value for name, value in known.items() if names.get(name)})
    for name, value in (known | after).items():
        if not names.get(name, False) and (name in names or hasattr(arguments, name)):
            setattr(arguments, name, value)
    return arguments


def import_arguments() -> None:
    """Import what `relayed_arguments` needs, before a caller waits for it."""
    import pipecat.runner.types  # noqa: F401  for its being imported

    import gateway.worker.call_websocket  # noqa: F401


def body_of(upgrade: Upgrade) -> Any:
    """What the upgrade's `body=` says: standard base64 of JSON. An empty dict for none, or for what is none."""
    values = parse_qs(upgrade.query).get("body", [])
    try:
        return orjson.loads(base64.b64decode(values[-1], validate=True)) if values else {}
    except (binascii.Error, ValueError):
        return {}


def known_of(upgrade: Upgrade) -> dict[str, str]:
    """What the gateway says of the call: `carrier`, `account`, `from`, `to`. Empty if it says nothing."""
    try:
        fields = orjson.loads(base64.b64decode(upgrade.headers.get(pcm.CALL_HEADER, ""), validate=True) or b"{}")
    except (binascii.Error, ValueError):
        return {}
    known = fields if isinstance(fields, dict) else {}
    return {name: value for name, value in known.items() if isinstance(value, str)}


def _scope(upgrade: Upgrade) -> dict[str, Any]:
    """The ASGI scope of the upgrade, without what is not for bots."""
    headers = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in upgrade.headers.items()
        if name not in NOT_FOR_BOTS
    ]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": upgrade.path,
        "raw_path": upgrade.path.encode(),
        "root_path": "",
        "query_string": upgrade.query.encode(),
        "headers": headers,
        "client": (upgrade.peer, 0) if upgrade.peer else None,
        "server": None,
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }
