"""Answer requests that no route takes: wrong paths, and upgrades that a proxy stripped.

Both are mistakes of a set-up. The person who looks for one sees our answer and the log: the answer says what to do in
words that tell a stranger nothing, and the log says more, in as few lines as an operator needs.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.api.routes import is_api, no_such_path
from gateway.node.node import Node
from gateway.node.urls import NO_UPGRADE, NOT_FOUND, unknown_carrier, without_prefix, wrong_path_hint
from gateway.serve.routes import Endpoint
from gateway.sockets.headers import combine, list_members

WHERE = "http"


def unrouted(node: Node, prefix: str) -> Endpoint:
    """Make the endpoint of all paths that have none. prefix: the path of `public_url`."""

    async def endpoint(request: Request) -> Response:
        path = without_prefix(request.scope["raw_path"].decode("latin-1"), prefix)
        if request.method == "GET" and _is_socket(path):
            node.refuse(WHERE, "no_upgrade", hint=_no_upgrade_hint(request))
            # RFC 9110, section 15.5.22: the answer names the protocol.
            return PlainTextResponse(NO_UPGRADE, 426, headers={"upgrade": "websocket", "connection": "upgrade"})
        if is_api(path):
            node.refuse(WHERE, "unknown_path")
            return await no_such_path(request)
        node.refuse(WHERE, "unknown_path", hint=wrong_path_hint(path, prefix.split("/")))
        return PlainTextResponse(NOT_FOUND, 404)

    return endpoint


def no_such_carrier(node: Node, name: str, path: str) -> Response:
    """Answer a webhook of a carrier that is not on.

    name: as the path has it, any stranger's word.
    """
    reason, hint = unknown_carrier(name, path)
    node.refuse(WHERE, reason, hint=hint)
    return PlainTextResponse(NOT_FOUND, 404)


def _is_socket(path: str) -> bool:
    segments = path.strip("/").split("/")
    return segments[0] in ("ws", "ws-client") or segments == ["v1", "workers", "connect"]


def _no_upgrade_hint(request: Request) -> str:
    """Name the headers that are missing, and who must pass them on."""
    headers = combine((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"])
    has = {name: {one.lower() for one in list_members(headers.get(name, ""))} for name in ("upgrade", "connection")}
    needed = {
        "Upgrade: websocket": "websocket" in has["upgrade"],
        "Connection: Upgrade": "upgrade" in has["connection"],
    }
    missing = " and ".join(f"`{line}`" for line, there in needed.items() if not there)
    return f"a request to a WebSocket's path came without {missing}: the proxy in front must pass them on (HTTP/1.1)"
