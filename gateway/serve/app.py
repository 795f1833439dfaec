"""The application: a node made of settings, and the HTTP routes on it. WebSockets do not pass through here; see
`calls.upgrades`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.resources import as_file, files
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.audio.files import convert, read_wav
from gateway.carriers import CARRIERS
from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.errors import AudioError, RegistryUnavailable, SettingsError
from gateway.metrics import Metrics
from gateway.node.dial_policy import DialPolicy
from gateway.node.node import Node
from gateway.node.services import Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Leases, Registry
from gateway.serve.ops import health_routes
from gateway.sessions.table import Sessions
from gateway.settings import ServiceSettings, Settings
from gateway.streams.authorize import UpgradeAuthorizer
from gateway.webhooks.resume import connect, resume
from gateway.webhooks.status import status
from gateway.webhooks.voice import voice

log = structlog.get_logger(__name__)

MAX_BODY = 256 * 1024
"""Bytes of a webhook's body; real ones have a few thousand."""

BODY_SECONDS = 5.0
"""From a webhook's headers to the end of its body: it comes before anything is known of who sends it."""

Webhook = Callable[[Sessions, Carrier, HttpRequest], Awaitable[HttpAnswer]]


def make_node(settings: Settings, *, dev: bool = False, leases: Leases | None = None) -> Node:
    """The node that these settings describe. Raises SettingsError."""
    if not settings.public_url:
        raise SettingsError("public_url", 'is missing: what carriers call you by, like "https://voice.example.com"')
    keys = tuple(key.get_secret_value().encode() for key in settings.secret)
    if not keys:
        keys = (secrets.token_bytes(32),)
        if not dev:
            log.warning("no secret is set: one was made up, and calls in progress will not survive a restart")
    leases, metrics = leases or Leases(), Metrics()
    registry = make_registry(settings.registry, leases)
    return Node(
        public_url=settings.public_url,
        registry=RegistryClient(registry, leases=leases, on_claim=metrics.claims.observe),
        signer=Signer(keys),
        services=Services(replace(section.service(), hold_audio=hold_audio(section)) for section in settings.services),
        carriers=_carriers(settings, dev),
        leases=leases,
        metrics=metrics,
        dial_allowed=DialPolicy(settings.dialout.allow),
    )


def make_registry(url: str, leases: Leases) -> Registry:
    """Of `registry`; a Redis is connected to when it is first asked. Raises SettingsError."""
    if url == "memory":
        return MemoryRegistry(leases)
    from gateway.pool.redis.registry import RedisRegistry

    try:
        return RedisRegistry(url, leases)
    except ValueError:  # its words may be a password's
        raise SettingsError("registry", "an option of the Redis URL has a value that it cannot have") from None


def hold_audio(section: ServiceSettings) -> bytes:
    """What callers on hold hear, as PCM at the service's rate. Raises SettingsError for a file that is no WAV."""
    if section.when_full.kind != "hold":
        return b""
    try:
        if section.hold_audio:
            pcm, rate = read_wav(section.hold_audio)
        else:
            with as_file(files("gateway") / "assets" / "hold.wav") as packaged:
                pcm, rate = read_wav(packaged)
    except AudioError as error:
        raise SettingsError(f"services.{section.host}.hold_audio", str(error)) from None
    return convert(pcm, rate, section.sample_rate).astype("<i2").tobytes()


def _carriers(settings: Settings, dev: bool) -> dict[str, Carrier]:
    """Those with credentials; in --dev the others too, open."""
    carriers = {}
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        if config is not None and config.lacks() and not dev:
            log.warning("carrier closed", carrier=name, missing=f"carriers.{name}.{config.lacks()}")
        elif config is not None or dev:
            carriers[name] = entry.carrier(config, public_url=settings.public_url, dev=dev)
    return carriers


def make_doorkeeper(sessions: Sessions, settings: Settings, *, dev: bool, local_key: str) -> UpgradeAuthorizer:
    """Who may open a WebSocket. local_key: of the worker hosts that this process starts itself."""
    from pydantic import SecretStr

    return UpgradeAuthorizer(
        sessions=sessions,
        worker_keys=(*settings.workers.keys, SecretStr(local_key)),
        prefix=urlsplit(sessions.node.public_url).path,
        dev=dev,
    )


def make_app(sessions: Sessions, ready: Callable[[], bool], *, body_seconds: float = BODY_SECONDS) -> Starlette:
    """The HTTP routes. ready: has every local host had its `min_warm`? body_seconds: for a whole body to come."""
    node = sessions.node
    prefix = urlsplit(node.public_url).path

    async def transports(_: Request) -> Response:
        return JSONResponse({"status": "ready", "transports": list(node.carriers)})

    routes = [*health_routes(node, ready), Route("/status", transports)]
    webhooks: dict[str, Webhook] = {
        "voice": voice,
        "resume": resume,
        "status": status,
        "stream": status,
        "connect": connect,
    }
    for base in {prefix, ""}:
        for name, handle in webhooks.items():
            endpoint = _endpoint(sessions, handle, base, body_seconds)
            # The second form is for carriers that sign nothing: a key as the path's last segment.
            routes.append(Route(f"{base}/webhooks/{{carrier}}/{name}", endpoint, methods=["GET", "POST"]))
            routes.append(Route(f"{base}/webhooks/{{carrier}}/{name}/{{key}}", endpoint, methods=["GET", "POST"]))
    return Starlette(routes=routes)


def _endpoint(
    sessions: Sessions, handle: Webhook, prefix: str, body_seconds: float
) -> Callable[[Request], Awaitable[Response]]:
    node = sessions.node

    async def endpoint(request: Request) -> Response:
        carrier = node.carriers.get(request.path_params["carrier"])
        if carrier is None:
            return Response(status_code=404)
        try:
            async with asyncio.timeout(body_seconds):
                body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except TimeoutError:
            node.refuse("webhook", "slow", carrier=carrier.name)
            return Response(status_code=408, headers={"connection": "close"})
        if body is None:
            node.refuse("webhook", "too_large", carrier=carrier.name)
            return Response(status_code=413)
        structlog.contextvars.bind_contextvars(carrier=carrier.name)
        began, outcome = time.perf_counter(), "failed"
        try:
            answer = await handle(sessions, carrier, _http_request(request, body, prefix))
            outcome = {400: "malformed", 403: "refused"}.get(answer.status, "noted" if handle is status else "answered")
        except RegistryUnavailable:
            outcome = "unavailable"
            node.refuse("webhook", "registry_down", carrier=carrier.name)
            return Response(status_code=503)
        finally:
            node.metrics.webhooks.observe(time.perf_counter() - began, carrier.name, outcome)
        return Response(
            answer.body, status_code=answer.status, media_type=answer.content_type, headers=dict(answer.headers)
        )

    return endpoint


async def _body(request: Request) -> bytes | None:
    """The whole body, or None if it is larger than any webhook's."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def _http_request(request: Request, body: bytes, prefix: str) -> HttpRequest:
    headers: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return HttpRequest(
        method=request.method,
        path=request.scope["raw_path"].decode("latin-1").removeprefix(prefix),
        query=request.scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
    )
