"""Keep web pages from driving a gateway under `--dev`, which believes every request.

It listens on loopback, where a browser is, too: a page of any site can have it send requests to 127.0.0.1 (Fetch
standard, "cross-origin"), and under a name of its own, which it lets resolve to 127.0.0.1, even read the answers (DNS
rebinding). The first shows in Origin and Sec-Fetch-Site, the second in Host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.node.node import Node
from gateway.settings import is_loopback
from gateway.sockets import Decision, Refusal, Upgrade
from gateway.sockets.headers import combine

WHERE = "dev"
_SAID = {
    "foreign_host": "--dev answers to this machine's own names and to public_url's only.\n",
    "foreign_origin": "--dev takes no requests that a page of another site makes.\n",
}
_HINTS = {
    "foreign_host": "--dev was asked under a foreign name: call 127.0.0.1, or set public_url to the name that you call",
    "foreign_origin": "a web page tried to drive this gateway: --dev takes nothing from pages of other sites",
}


class BrowserGuard:
    """Refuses what comes from pages of other sites.

    The host of `public_url` is no other site.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._own = urlsplit(node.public_url).hostname or ""

    def app(self, app: ASGIApp) -> ASGIApp:
        """Put the guard in front of an application."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            lines = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
            if reason := self._refused(combine(lines)):
                await PlainTextResponse(_SAID[reason], 403)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    def decide(self, decide: Callable[[Upgrade], Decision]) -> Callable[[Upgrade], Decision]:
        """Put the guard in front of what decides on upgrades.

        A browser sends those without asking first: CORS does not hold for WebSockets.
        """

        def guarded(upgrade: Upgrade) -> Decision:
            if reason := self._refused(upgrade.headers):
                return Refusal(403, _SAID[reason])
            return decide(upgrade)

        return guarded

    def _refused(self, headers: Mapping[str, str]) -> str:
        """Return why the request is refused, "" if it is not."""
        reason = ""
        origin = headers.get("origin")
        if "host" in headers and not self._is_own(f"//{headers['host']}"):
            reason = "foreign_host"
        elif origin is not None:
            reason = "" if self._is_own(origin) else "foreign_origin"
        elif headers.get("sec-fetch-site") == "cross-site":  # an image or a link: those requests have no Origin
            reason = "foreign_origin"
        if reason:
            self._node.refuse(WHERE, reason, hint=_HINTS[reason])
        return reason

    def _is_own(self, url: str) -> bool:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return False
        return host == self._own or is_loopback(host)
