"""The bridge that a session has now: of the protocol that its bot speaks. That is known once there is a claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import structlog

from gateway.errors import UnsupportedCodec
from gateway.media.bridge import Bridge
from gateway.media.endpoints import StreamEndpoint
from gateway.media.playout import PlayoutLimits
from gateway.media.relay import Relay
from gateway.media.relay_hold import RelayHold
from gateway.media.types import BridgeEvents, BridgeLimits, EarlyMedia, Stream
from gateway.metrics import Meter
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.registry import Claim
from gateway.protocol.workers import LinkProtocol
from gateway.sessions.latest_fact import RememberingSession
from gateway.sessions.recording import SessionRecording

log = structlog.get_logger(__name__)


class BridgedSession(BridgeEvents, RememberingSession, Protocol):
    """A session that hears its bridge, and whose facts can be written."""


class CurrentBridge:
    """Hold a session's bridge, and replace it when its bot speaks the other protocol.

    claim: the session's first, None on hold.
    endpoint: the carrier's end of it; None: not yet.
    meter: which counts what passes; None: not yet.
    """

    def __init__(self, node: Node, service: Service, session: BridgedSession, claim: Claim | None) -> None:
        if claim is not None:
            node.protocols[service.host] = claim.protocol
        self.protocol = claim.protocol if claim is not None else node.protocol_of(service)
        self.bridge = _make_bridge(self.protocol, service, session)
        self.recording = SessionRecording(node, service, session, self.bridge)
        self.endpoint: StreamEndpoint | None = None
        self.meter: Meter | None = None
        self._node = node
        self._service = service
        self._session = session

    def use(self, protocol: LinkProtocol, stream: Stream | None, now: float) -> bool:
        """Join the call to bots of this protocol from now on, which is not the present one.

        Only a caller who was on hold can have been given the other one: no claim had said which. What they said is
        heard as after any hold, but by a relay only from now on.

        stream: the one that there is, if any.
        Returns False if the stream's codec cannot be read.
        """
        self._node.protocols[self._service.host] = self.protocol = protocol
        log.info("the bot speaks another protocol than expected", session=self._session.id, protocol=protocol)
        older = self.bridge
        older.clear(now)  # of hold audio
        older.detach_stream(now)
        self.bridge = _make_bridge(protocol, self._service, self._session)
        self.bridge.counts.take_over(older.counts)
        self.recording.use_bridge(self.bridge)
        self._node.ticker.discard(older)
        self._node.ticker.add(self.bridge, self._session.bridge_failed)
        if self.endpoint is not None:
            self.endpoint.serve(self.bridge)
        if self.meter is not None:
            self.meter.bridge = self.bridge
        if stream is not None:
            try:
                self.bridge.attach_stream(replace(stream, early=EarlyMedia()), now)
            except UnsupportedCodec:
                return False
        self.recording.go_on(now)
        if isinstance(older, Relay) and isinstance(self.bridge, Bridge):
            for message in older.take_backlog(now):
                self.bridge.stream_received(message.data, message.text, now)
        return True


def _make_bridge(protocol: LinkProtocol, service: Service, events: BridgeEvents) -> Bridge | Relay:
    """Return a bridge to bots of this protocol. events: the session."""
    limits = BridgeLimits(
        playout=PlayoutLimits(target_buffer=service.playout_lead),
        stream_quiet=service.stream_quiet,
        link_dead=service.link_dead,
    )
    if protocol == "relay":
        return Relay(limits, events, RelayHold(service.hold_audio, service.sample_rate, limits))
    return Bridge(service.sample_rate, limits, events, service.hold_audio)
