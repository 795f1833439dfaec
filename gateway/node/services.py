"""Services: what answers a call, and how a call finds the one that is meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from gateway.protocol.workers import LinkProtocol
from serializers.base import MediaFormat


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a caller gets when there is no bot: "hold", "busy", "message", or "forward" to a number."""

    kind: Literal["hold", "busy", "forward", "message"]
    to: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A service, by its name (`host`), and how its calls are treated. Seconds, Hz."""

    host: str
    default: bool = False
    numbers: tuple[str, ...] = ()
    protocol: LinkProtocol | None = None
    """What its workers must speak; None: what each of its hosts says. Static workers cannot say, and speak pcm then."""
    sample_rate: int = 16000
    media: MediaFormat = MediaFormat("mulaw", 8000)
    """What we ask the carrier to speak, where it can be asked."""
    when_full: Fallback = Fallback("hold")
    when_down: Fallback = Fallback("busy")
    max_hold: float = 30.0
    """A caller waits for a free worker this long, in hold audio."""
    max_call: float = 7200.0
    """The longest call: one that is never ended would keep its worker, and cost."""
    wrapup: float = 30.0
    """A bot has this long after `stop` to end its work; its worker is free then at the latest."""
    slots: int = 1
    """Calls at once on each static worker's URL."""
    rest: float = 5.0
    """A static worker is not offered for so long after a call."""
    after_bot: Literal["hangup", "park"] = "hangup"
    """What becomes of a call whose bot closes its link: it is hung up, or parked, where the bot moves its calls by the
    carrier's REST API."""
    playout_lead: float = 0.2
    """Bot audio is sent to the carrier this much ahead of its playing, so that no lateness of ours is heard."""
    stream_quiet: float = 10.0
    """A carrier that sends no media for this long is asked by a ping: it may have the call on hold, or be gone."""
    link_dead: float = 10.0
    """A link whose worker has answered no ping for this long is dead."""
    record: str = ""
    """A folder for recordings of the wire, "" for none."""
    recordings: str = ""
    """A folder for recordings of what is said and heard, "" for none."""
    recording_format: Literal["flac", "wav"] = "flac"
    announcement: bytes = field(default=b"", repr=False)
    """PCM at `sample_rate` that a caller hears before the bot."""
    hold_audio: bytes = field(default=b"", repr=False)
    """PCM at `sample_rate`, for callers on hold; b"" is silence."""


class Services:
    """All services of this gateway, by name, by dialled number, and the default."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._by_host = {service.host: service for service in services}
        self._by_number = {n: s for s in self._by_host.values() for n in s.numbers}
        defaults = [s for s in self._by_host.values() if s.default]
        only = list(self._by_host.values()) if len(self._by_host) == 1 else []
        self._default = next(iter(defaults or only), None)

    def __iter__(self) -> Iterator[Service]:
        return iter(self._by_host.values())

    def get(self, host: str) -> Service | None:
        """The service of exactly this name."""
        return self._by_host.get(host)

    def choose(self, named: str, dialled: str) -> Service | None:
        """The first that applies: the one named, the dialled number's, the default.

        A name that is not ours gives None, whatever the number: a misrouted call is refused, never passed on.
        """
        if named:
            return self._by_host.get(named)
        return self._by_number.get(dialled) or self._default
