"""Who may open a WebSocket, decided before the handshake is answered: streams with our token, static streams with their
carrier's signature or a key, and worker hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import SecretStr

from gateway.carriers.base import Carrier, HttpRequest, Refused
from gateway.carriers.form import offered_keys, read_one
from gateway.carriers.parameters import SERVICE_HOST
from gateway.carriers.secrets import accepts
from gateway.node.node import Node
from gateway.node.worker_hosts import WorkerHostConnection
from gateway.protocol import workers
from gateway.sessions.table import Sessions
from gateway.sockets import Accept, Decision, Refusal, Upgrade
from gateway.streams.admission import StreamGrant
from gateway.streams.handshake import StreamHandshake
from serializers.base import Serializer


@dataclass(frozen=True, slots=True)
class UpgradeAuthorizer:
    """Decides on every upgrade. prefix: of `public_url`'s own path. dev: everybody is believed."""

    sessions: Sessions
    worker_keys: tuple[SecretStr, ...] = ()
    prefix: str = ""
    dev: bool = False

    @property
    def node(self) -> Node:
        return self.sessions.node

    def decide(self, upgrade: Upgrade) -> Decision:
        """Accept with a handler, or refuse with a status. Never raises for what a stranger sends."""
        path = upgrade.path.removeprefix(self.prefix)
        match path.split("/")[1:]:
            case ["v1", "workers", "connect"]:
                return self._worker_host(upgrade)
            case ["ws", name, "s", service, key]:
                return self._static(upgrade, path, name, unquote(service), unquote(key))
            case ["ws", name, token]:
                return self._ours(upgrade, path, name, token)
            case ["ws", name]:
                return self._static(upgrade, path, name, "", "")
            case ["ws"]:
                return self._any_carrier(upgrade)
        return self._refuse("unknown_path", 404)

    def _ours(self, upgrade: Upgrade, path: str, name: str, token: str) -> Decision:
        carrier = self.node.carriers.get(name)
        if carrier is None:
            return self._refuse("unknown_carrier", 404)
        read = self.node.signer.read(token, name, now=self.node.unix_time())
        if read is None:
            return self._refuse("bad_token", 403, name)
        account = ""
        verified = carrier.verify_upgrade(_request(upgrade, path), now=self.node.unix_time())
        if not isinstance(verified, Refused):
            account = verified.account
        elif carrier.can.upgrade_signed:
            return self._refuse(verified.reason, 403, name)
        elif verified.reason != "unsigned":
            # Plivo: the recipe is uncertain, and the token is what counts. Worth knowing, not worth a call.
            self.node.rejected["upgrade_signature", verified.reason] += 1
        service = self.node.services.get(read.service)
        negotiated = carrier.negotiate(service.media) if service is not None else None
        serializer = carrier.make_serializer(negotiated)
        return self._open(StreamGrant(name, token=read, account=account), serializer)

    def _static(self, upgrade: Upgrade, path: str, name: str, service: str, key: str) -> Decision:
        carrier = self.node.carriers.get(name)
        if carrier is None:
            return self._refuse("unknown_carrier", 404)
        account = self._static_account(carrier, upgrade, path, key)
        if isinstance(account, Refused):
            return self._refuse(account.reason, 403, name)
        named = service or read_one(upgrade.query, SERVICE_HOST)
        return self._open(StreamGrant(name, service=named, account=account), carrier.make_serializer())

    def _static_account(self, carrier: Carrier, upgrade: Upgrade, path: str, key: str) -> str | Refused:
        """The account that the signature proves, "" if a key opened the door."""
        request = _request(upgrade, path)
        verified = carrier.verify_upgrade(request, now=self.node.unix_time())
        if not isinstance(verified, Refused):
            return verified.account
        if not carrier.can.upgrade_signed and _opens(self._stream_keys(carrier), (key, *offered_keys(request))):
            return ""
        return Refused("bad_key" if verified.reason == "unsigned" else verified.reason)

    def _any_carrier(self, upgrade: Upgrade) -> Decision:
        """`/ws`: the handshake tells the carrier, which must be one whose stream key was shown."""
        offered = offered_keys(_request(upgrade, upgrade.path))
        carriers = self.node.carriers.values()
        shown = [carrier.name for carrier in carriers if self.dev or _opens(self._stream_keys(carrier), offered)]
        if not shown:
            return self._refuse("bad_key", 403)
        return self._open(
            StreamGrant("", service=read_one(upgrade.query, SERVICE_HOST), carriers=frozenset(shown)), None
        )

    def _stream_keys(self, carrier: Carrier) -> tuple[SecretStr, ...]:
        return tuple(carrier.config.stream_key) if carrier.config is not None else ()

    def _open(self, ticket: StreamGrant, serializer: Serializer | None) -> Decision:
        if self.node.streams >= self.node.limits.streams:
            return self._refuse("too_many_streams", 503, ticket.carrier)
        return Accept(StreamHandshake(self.sessions, ticket, serializer))

    def _worker_host(self, upgrade: Upgrade) -> Decision:
        scheme, _, key = upgrade.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not accepts(self.worker_keys, key.strip()):
            return self._refuse("bad_worker_key", 401)
        return Accept(WorkerHostConnection(self.node), subprotocol=workers.SUBPROTOCOL, max_size=workers.MAX_MESSAGE)

    def _refuse(self, reason: str, status: int, carrier: str = "") -> Refusal:
        self.node.refuse("upgrade", reason, carrier=carrier)
        return Refusal(status)


def _opens(keys: Collection[SecretStr], offered: Iterable[str]) -> bool:
    """Is any of those offered one of the keys? Looks at all of them: it takes as long wherever the right one stands."""
    return any([accepts(keys, key) for key in offered])  # noqa: C419 - a generator would end at the first


def _request(upgrade: Upgrade, path: str) -> HttpRequest:
    return HttpRequest("GET", path, upgrade.query, upgrade.headers)
