"""The application: a node made of settings, and the HTTP routes on it.

WebSockets do not pass through here: see `gateway.streams.authorize`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.api.keys import ApiKeys
from gateway.api.parts import Api
from gateway.api.routes import make_api
from gateway.audio.files import convert, read_wav, read_wav_or_asset
from gateway.carriers import CARRIERS
from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.dialout.conductor import DialOut
from gateway.dialout.limits import DialoutLimits
from gateway.errors import AudioError, RegistryUnavailable, SettingsError
from gateway.metrics import Metrics
from gateway.node.dial_policy import DialPolicy
from gateway.node.node import Node
from gateway.node.services import Services
from gateway.node.tokens import Signer
from gateway.node.worker_networks import WorkerNetworks
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Leases, Registry
from gateway.records.base import NoRecords, Records
from gateway.serve.ops import health_routes, status_operation
from gateway.serve.record_keeping import RecordKeeping
from gateway.serve.routes import both_forms, make_starlette
from gateway.serve.unrouted import no_such_carrier, unrouted
from gateway.sessions.table import Sessions
from gateway.settings import ServiceSettings, Settings
from gateway.sockets.headers import LIST_HEADERS, combine
from gateway.streams.authorize import UpgradeAuthorizer
from gateway.webhooks.dial import whom_to_dial
from gateway.webhooks.resume import resume
from gateway.webhooks.status import status
from gateway.webhooks.voice import voice

log = structlog.get_logger(__name__)

MAX_BODY = 256 * 1024
"""Bytes of a webhook's body; real ones have a few thousand."""

MAX_ANNOUNCEMENT = 60
"""Seconds: half of what a playout holds, and more than callers listen to."""

BODY_SECONDS = 5.0
"""From a webhook's headers to the end of its body: it comes before anything is known of who sends it."""

Webhook = Callable[[Sessions, Carrier, HttpRequest], Awaitable[HttpAnswer]]


def make_node(
    settings: Settings, *, dev: bool = False, leases: Leases | None = None, keeping: RecordKeeping | None = None
) -> Node:
    """Make the node that these settings describe. keeping: what is to keep its records. Raises SettingsError."""
    if not settings.public_url:
        raise SettingsError("public_url", 'is missing: what carriers call you by, like "https://voice.example.com"')
    keys = tuple(key.get_secret_value().encode() for key in settings.secret)
    if not keys:
        keys = (secrets.token_bytes(32),)
        if not dev:
            log.warning("no secret is set: one was made up, and calls in progress will not survive a restart")
    leases, metrics = leases or Leases(), Metrics()
    registry = make_registry(settings.registry, leases)
    records: Records = keeping.writer if keeping is not None else NoRecords()
    return Node(
        id=keeping.node if keeping is not None else secrets.token_hex(8),
        records=records,
        record_store=keeping.store if keeping is not None else None,
        public_url=settings.public_url,
        registry=RegistryClient(
            registry,
            leases=leases,
            on_claim=metrics.claims.observe,
            on_failure=metrics.note_registry_failure,
            on_facts=records.note,
        ),
        signer=Signer(keys),
        services=Services(
            replace(section.service(), hold_audio=hold_audio(section), announcement=announcement(section))
            for section in settings.services
        ),
        carriers=_carriers(settings, dev),
        leases=leases,
        metrics=metrics,
        dial_allowed=DialPolicy(settings.dialout.allow),
        worker_networks=WorkerNetworks(settings.workers.networks),
    )


def make_registry(url: str, leases: Leases) -> Registry:
    """Make the registry of this URL. Raises SettingsError.

    A Redis is connected to when it is first asked.
    """
    if url == "memory":
        return MemoryRegistry(leases)
    from gateway.pool.redis.registry import RedisRegistry

    try:
        return RedisRegistry(url, leases)
    except ValueError:  # its words may be a password's
        raise SettingsError("registry", "an option of the Redis URL has a value that it cannot have") from None


def hold_audio(section: ServiceSettings) -> bytes:
    """Return what callers on hold hear, as PCM at the service's rate.

    Raises SettingsError for a file that is no WAV.
    """
    if section.when_full.kind != "hold":
        return b""
    try:
        pcm, rate = read_wav_or_asset(section.hold_audio or None, "hold.wav")
    except AudioError as error:
        raise SettingsError(f"services.{section.host}.hold_audio", str(error)) from None
    return convert(pcm, rate, section.sample_rate).astype("<i2").tobytes()


def announcement(section: ServiceSettings) -> bytes:
    """Return what callers hear before the bot, as PCM at the service's rate, b"" for nothing.

    Raises SettingsError for a file that is no WAV, or is too long.
    """
    if not section.announcement:
        return b""
    name = f"services.{section.host}.announcement"
    try:
        pcm, rate = read_wav(section.announcement)
    except AudioError as error:
        raise SettingsError(name, str(error)) from None
    if len(pcm) > rate * MAX_ANNOUNCEMENT:
        raise SettingsError(name, f"is longer than {MAX_ANNOUNCEMENT} s")
    return convert(pcm, rate, section.sample_rate).astype("<i2").tobytes()


def _carriers(settings: Settings, dev: bool) -> dict[str, Carrier]:
    """Make the carriers that have credentials; under --dev the others too, open."""
    carriers = {}
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        if config is not None and config.lacks() and not dev:
            log.warning("carrier closed", carrier=name, missing=f"carriers.{name}.{config.lacks()}")
        elif config is not None or dev:
            carriers[name] = entry.carrier(config, public_url=settings.public_url, dev=dev)
    return carriers


def make_authorizer(sessions: Sessions, settings: Settings, *, dev: bool, local_key: str) -> UpgradeAuthorizer:
    """Make what decides on upgrades.

    local_key: of the worker hosts that this process starts itself.
    """
    from pydantic import SecretStr

    return UpgradeAuthorizer(
        sessions=sessions,
        worker_keys=settings.workers.keys,
        local_keys=(SecretStr(local_key),),
        prefix=urlsplit(sessions.node.public_url).path,
        dev=dev,
    )


def make_dialout(sessions: Sessions, settings: Settings) -> DialOut:
    """Make what places calls. Its `run` must be running."""
    limits = DialoutLimits(
        allow=settings.dialout.allow,
        callers=settings.dialout.callers,
        cps=settings.dialout.cps,
        max_concurrent=settings.dialout.max_concurrent,
        registry_is_local=settings.registry == "memory",
    )
    return DialOut(sessions, limits)


def make_parts(sessions: Sessions, settings: Settings, dialout: DialOut, keeping: RecordKeeping | None = None) -> Api:
    """Make what the API stands on. keeping: of the records, if any are kept."""
    keys, store = ApiKeys(settings.api.api_keys()), sessions.node.record_store
    return Api(sessions, keys, dialout, store, live=keeping.live if keeping is not None else None)


def make_app(
    sessions: Sessions, ready: Callable[[], bool], api: Api | None = None, *, body_seconds: float = BODY_SECONDS
) -> Starlette:
    """Make the application of the public port.

    ready: has every local host had its `min_warm`? api: None for one without keys, which is closed.
    body_seconds: for a whole body to come.
    """
    node = sessions.node
    prefix = urlsplit(node.public_url).path

    routes = health_routes(node, ready)
    routes += make_api(api or Api(sessions, ApiKeys(())), sorted({prefix, ""}), (status_operation(node, ready),))
    webhooks: dict[str, Webhook] = {
        "voice": voice,
        "resume": resume,
        "status": status,
        "stream": status,
    }
    # Where a carrier asks whom to dial; for any other such a route answers 404.
    webhooks |= {carrier.dial_route: whom_to_dial for carrier in node.carriers.values() if carrier.dial_route}
    for base in {prefix, ""}:
        for name, handle in webhooks.items():
            endpoint = _endpoint(sessions, handle, base, body_seconds)
            # The second form is for carriers that sign nothing: a key as the path's last segment.
            for path in (f"{base}/webhooks/{{carrier}}/{name}", f"{base}/webhooks/{{carrier}}/{name}/{{key}}"):
                routes += both_forms(path, endpoint, ("GET", "POST"))
    return make_starlette(routes, unrouted(node, prefix))


def _endpoint(
    sessions: Sessions, handle: Webhook, prefix: str, body_seconds: float
) -> Callable[[Request], Awaitable[Response]]:
    node, lists = sessions.node, list_headers(sessions.node)

    async def endpoint(request: Request) -> Response:
        name = request.path_params["carrier"]
        carrier = node.carriers.get(name)
        if carrier is None:
            return no_such_carrier(node, name, request.scope["raw_path"].decode("latin-1").removeprefix(prefix))
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
            answer = await handle(sessions, carrier, _http_request(request, body, prefix, lists))
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


def list_headers(node: Node) -> frozenset[str]:
    """Return the names of headers that are lists.

    Those of HTTP, and those that the node's carriers declare.
    """
    return LIST_HEADERS.union(*(carrier.list_headers for carrier in node.carriers.values()))


def _http_request(request: Request, body: bytes, prefix: str, lists: Collection[str]) -> HttpRequest:
    lines = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"])
    return HttpRequest(
        method=request.method,
        path=request.scope["raw_path"].decode("latin-1").removeprefix(prefix),
        query=request.scope["query_string"].decode("latin-1"),
        headers=combine(lines, lists),
        body=body,
    )
