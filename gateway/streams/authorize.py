"""Who may open a WebSocket, decided before the handshake is answered: streams with our token, static streams with their
carrier's signature or a key, and worker hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from gateway.carriers.base import Carrier, HttpRequest, Refused
from gateway.carriers.form import offered_keys, read_one
from gateway.carriers.parameters import SERVICE_HOST
from gateway.carriers.secrets import accepts
from gateway.node.node import Node
from gateway.node.tokens import WEBSOCKET, StreamToken, prepared_token
from gateway.node.urls import (
    NOT_FOUND,
    SIGNED_URL_HINT,
    loggable_stream,
    unknown_carrier,
    without_prefix,
    wrong_path_hint,
)
from gateway.node.worker_hosts import WorkerHostConnection
from gateway.pool.facts import FactEvent
from gateway.protocol import pcm, workers
from gateway.sessions.client_session import ClientSession
from gateway.sessions.table import Sessions
from gateway.sockets import Accept, Decision, Refusal, Upgrade
from gateway.streams.admission import StreamGrant
from gateway.streams.handshake import StreamHandshake
from gateway.streams.url_body import read_body
from serializers.base import Serializer


@dataclass(frozen=True, slots=True)
class UpgradeAuthorizer:
    """Decides on every upgrade.

    worker_keys: of worker hosts elsewhere. local_keys: of those that this gateway starts itself.
    prefix: of `public_url`'s own path.
    dev: `/ws` needs no key and a client no token. Signatures are the carriers' to waive.
    """

    sessions: Sessions
    worker_keys: tuple[SecretStr, ...] = ()
    local_keys: tuple[SecretStr, ...] = ()
    prefix: str = ""
    dev: bool = False

    @property
    def node(self) -> Node:
        return self.sessions.node

    def decide(self, upgrade: Upgrade) -> Decision:
        """Accept with a handler, or refuse with a status. A stranger can make it raise nothing."""
        # With the slash at its end, if there is one: signatures cover it.
        path = without_prefix(upgrade.path, self.prefix)
        segments = path.split("/")[1:]
        # A slash at the end says nothing, but for /ws/<carrier>/: that is a token stream without its token, and not the
        # carrier's static stream.
        if segments[-1:] == [""] and not (segments[0] == "ws" and len(segments) == 3):
            segments.pop()
        # A token may stand there twice: the URL that /start answers with ends with it, and clients add it to a URL of
        # Pipecat's runner, which does not (pipecat.runner.run: `/ws-client/<token>`).
        match segments:
            case ["v1", "workers", "connect"]:
                return self._worker_host(upgrade)
            case ["ws-client"]:
                return self._client(upgrade, "")
            case ["ws-client", token]:
                return self._client(upgrade, token)
            case ["ws-client", token, again] if token == again:
                return self._client(upgrade, token)
            case ["ws", name, "s", service, key]:
                return self._static(upgrade, path, name, unquote(service), unquote(key))
            case ["ws", name, "s", service]:
                return self._static(upgrade, path, name, unquote(service), "")
            case ["ws", name, token] | ["ws", name, token, _] if len(segments) == 3 or token == segments[3]:
                return self._token_stream(upgrade, path, name, token)
            case ["ws", name]:
                return self._static(upgrade, path, name, "", "")
            case ["ws"]:
                return self._any_carrier(upgrade)
        hint = wrong_path_hint(path, self.prefix.split("/"))
        return self._refuse("unknown_path", 404, body=NOT_FOUND, hint=hint)

    def invalid(self, status: int) -> None:
        """Note a handshake that was refused with this status before any decision."""
        hint = "the proxy in front must pass the Sec-WebSocket headers on, each once"
        self.node.refuse("upgrade", "bad_handshake", status=str(status), hint=hint)

    def _token_stream(self, upgrade: Upgrade, path: str, name: str, token: str) -> Decision:
        carrier = self.node.carriers.get(name)
        if carrier is None:
            return self._unknown_carrier(name, path)
        read = self.node.signer.read(token, name, now=self.node.unix_time())
        if read is None:
            return self._refuse("bad_token", 403, name)
        account = ""
        verified = carrier.verify_upgrade(_request(upgrade, path), now=self.node.unix_time())
        if not isinstance(verified, Refused):
            account = verified.account
        elif carrier.can.upgrade_signed:
            return self._refuse_signature(verified.reason, name, upgrade, path)
        elif verified.reason != "unsigned":
            # A carrier whose upgrade signature is not documented: count a wrong one, and go by the token.
            self.node.rejected["upgrade_signature", verified.reason] += 1
        service = self.node.services.get(read.service)
        negotiated = carrier.negotiate(service.media) if service is not None and not read.prepared else None
        serializer = carrier.make_serializer(negotiated)
        return self._open(StreamGrant(name, token=read, account=account), serializer)

    def _client(self, upgrade: Upgrade, in_path: str) -> Decision:
        """Decide on a client of the user's own. Its token is where Pipecat's runner takes it: path, header or query."""
        node = self.node
        scheme, _, bearer = upgrade.headers.get("authorization", "").partition(" ")
        shown = in_path or (bearer.strip() if scheme.lower() == "bearer" else "") or read_one(upgrade.query, "token")
        token, begin = node.signer.read(shown, WEBSOCKET, now=node.unix_time()), None
        if token is None and not shown and self.dev:
            token, begin = self._client_without_token(read_one(upgrade.query, SERVICE_HOST))
        service = node.services.get(token.service) if token is not None else None
        if token is None or service is None:
            return self._refuse("bad_token", 403)
        if node.refusing or node.overloaded or node.streams >= node.limits.streams:
            return self._refuse("no_new_clients", 503)
        session = ClientSession(node, service, token, self.sessions.clients, begin)
        return Accept(session, max_size=pcm.MAX_AUDIO)

    def _client_without_token(self, named: str) -> tuple[StreamToken | None, FactEvent | None]:
        """Make what a request to /start would have made."""
        node, service = self.node, self.node.services.choose(named, "")
        if service is None:
            return None, None
        now = node.unix_time()
        begin = FactEvent(carrier=WEBSOCKET, service=service.host, status="queued", created=now)
        return prepared_token(WEBSOCKET, service.host, now + 60.0), begin

    def _static(self, upgrade: Upgrade, path: str, name: str, service: str, key: str) -> Decision:
        carrier = self.node.carriers.get(name)
        if carrier is None:
            return self._unknown_carrier(name, path)
        account = self._static_account(carrier, upgrade, path, key)
        if isinstance(account, Refused):
            return self._refuse_signature(account.reason, name, upgrade, path)
        named = service or read_one(upgrade.query, SERVICE_HOST)
        grant = StreamGrant(name, service=named, account=account, body=self._body(upgrade, name))
        return self._open(grant, carrier.make_serializer())

    def _body(self, upgrade: Upgrade, carrier: str = "") -> dict[str, Any]:
        """The bot's body in the URL. One that cannot be read is said, and the call goes on without it."""
        body = read_body(upgrade.query)
        if body is None:
            hint = "body= must be base64 of a JSON object, percent-encoded; the bot gets none"
            self.node.note_ignored("body", "unreadable", carrier=carrier, hint=hint)
        return body or {}

    def _static_account(self, carrier: Carrier, upgrade: Upgrade, path: str, key: str) -> str | Refused:
        """The account that the signature proves, "" if a key opened the door."""
        request = _request(upgrade, path)
        verified = carrier.verify_upgrade(request, now=self.node.unix_time())
        if not isinstance(verified, Refused):
            return verified.account
        if not carrier.can.upgrade_signed and _any_key_fits(self._stream_keys(carrier), (key, *offered_keys(request))):
            return ""
        return Refused("bad_key" if verified.reason == "unsigned" else verified.reason)

    def _any_carrier(self, upgrade: Upgrade) -> Decision:
        """Decide on `/ws`: `start` must name a carrier whose stream key was shown."""
        offered = offered_keys(_request(upgrade, upgrade.path))
        carriers = self.node.carriers.values()
        shown = [carrier.name for carrier in carriers if self.dev or _any_key_fits(self._stream_keys(carrier), offered)]
        if not shown:
            return self._refuse("bad_key", 403)
        return self._open(
            StreamGrant(
                "",
                service=read_one(upgrade.query, SERVICE_HOST),
                carriers=frozenset(shown),
                body=self._body(upgrade),
            ),
            None,
        )

    def _stream_keys(self, carrier: Carrier) -> tuple[SecretStr, ...]:
        return tuple(carrier.config.stream_key) if carrier.config is not None else ()

    def _open(self, grant: StreamGrant, serializer: Serializer | None) -> Decision:
        if self.node.streams >= self.node.limits.streams:
            return self._refuse("too_many_streams", 503, grant.carrier)
        return Accept(StreamHandshake(self.sessions, grant, serializer))

    def _worker_host(self, upgrade: Upgrade) -> Decision:
        scheme, _, key = upgrade.headers.get("authorization", "").partition(" ")
        known, local = accepts(self.worker_keys, key.strip()), accepts(self.local_keys, key.strip())
        if scheme.lower() != "bearer" or not (known or local):
            return self._refuse("bad_worker_key", 401)
        host = WorkerHostConnection(self.node, peer=upgrade.peer, local=local)
        return Accept(host, subprotocol=workers.SUBPROTOCOL, max_size=workers.MAX_MESSAGE)

    def _unknown_carrier(self, name: str, path: str) -> Refusal:
        reason, hint = unknown_carrier(name, path)
        return self._refuse(reason, 404, body=NOT_FOUND, hint=hint)

    def _refuse_signature(self, reason: str, carrier: str, upgrade: Upgrade, path: str) -> Refusal:
        """Refuse a wrong signature or key.

        Of a signature say which URL it was checked against.
        """
        if reason != "bad_signature":
            return self._refuse(reason, 403, carrier)
        checked = loggable_stream(self.node.public_ws, path, upgrade.query)
        return self._refuse(reason, 403, carrier, checked_url=checked, hint=SIGNED_URL_HINT)

    def _refuse(self, reason: str, status: int, carrier: str = "", *, body: str = "", **details: str) -> Refusal:
        self.node.refuse("upgrade", reason, carrier=carrier, **details)
        return Refusal(status, body)


def _any_key_fits(keys: Collection[SecretStr], offered: Iterable[str]) -> bool:
    """Return whether one of the offered keys is right. Compares all, so that the time tells nothing."""
    return any([accepts(keys, key) for key in offered])  # noqa: C419 - a generator would end at the first


def _request(upgrade: Upgrade, path: str) -> HttpRequest:
    return HttpRequest("GET", path, upgrade.query, upgrade.headers)
