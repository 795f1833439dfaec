"""Make what joins a session's stream and link: a `Bridge`, or a `Relay` for a bot that speaks the carrier's wire."""

from __future__ import annotations

from gateway.media.bridge import Bridge
from gateway.media.playout import PlayoutLimits
from gateway.media.relay import Relay
from gateway.media.relay_hold import RelayHold
from gateway.media.types import BridgeEvents, BridgeLimits
from gateway.node.services import Service
from gateway.protocol.workers import LinkProtocol


def make_bridge(protocol: LinkProtocol, service: Service, events: BridgeEvents) -> Bridge | Relay:
    """Return a bridge to bots of this protocol. events: the session."""
    limits = BridgeLimits(
        playout=PlayoutLimits(target_buffer=service.playout_lead),
        stream_quiet=service.stream_quiet,
        link_dead=service.link_dead,
    )
    if protocol == "relay":
        return Relay(limits, events, RelayHold(service.hold_audio, service.sample_rate, limits))
    return Bridge(service.sample_rate, limits, events, service.hold_audio)
