"""Routes that answer with and without a slash at their end, never by a redirect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


def both_forms(path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> list[Route]:
    """Route a path to this endpoint, as it is and with a slash at its end."""
    return [Route(form, endpoint, methods=list(methods)) for form in (path, f"{path}/")]


def make_starlette(routes: Iterable[Route], unrouted: Endpoint | None = None) -> Starlette:
    """Make an application of these routes.

    unrouted: for all other paths; None for a bare 404.

    Starlette's own answer to a path with one slash too many is a redirect to the Host that the request names: any
    stranger's word, or a proxy's name for us. A carrier's POST would lose its body, its signature and perhaps itself
    there.
    """
    app = Starlette(routes=list(routes))
    app.router.redirect_slashes = False
    if unrouted is not None:
        endpoint = unrouted

        async def default(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        app.router.default = default
    return app
