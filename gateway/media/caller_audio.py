"""What the caller says, on its way to the bot: to its link, or into the backlog while there is none."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.audio.format import FRAME_MS, AudioFormat
from gateway.audio.quiet import is_quiet
from gateway.media.backlog import BacklogItem, CallerBacklog
from gateway.media.caller_clock import CallerClock
from gateway.media.keepalive import LinkKeepalive
from gateway.media.types import BridgeLimits, Counts
from gateway.protocol import pcm
from gateway.sockets import Socket


class CallerAudio:
    """The caller's side of one session. pcm_format: what the bot hears."""

    def __init__(self, pcm_format: AudioFormat, limits: BridgeLimits, counts: Counts) -> None:
        self.link: Socket | None = None
        self._on_hold = False
        self._heard_before = False
        """There was a bot already."""
        self._keepalive: LinkKeepalive | None = None
        self._limits = limits
        self._counts = counts
        self._clock = CallerClock()
        self._silence = pcm_format.silence(pcm_format.bytes_for_ms(FRAME_MS))
        self._frame_bytes = len(self._silence)
        self._passed_whole = self._frame_bytes + self._frame_bytes // 2
        """Bytes: audio up to this long is passed on as it came."""
        self._bytes_per_second = pcm_format.bytes_for_ms(1000)
        self._backlog = CallerBacklog(int(limits.backlog * self._bytes_per_second))
        self._bytes_since_tick = 0
        """Bytes of audio, told to the clock in one call per tick instead of one per frame."""

    def attach(self, link: Socket, first: Iterable[pcm.ToWorker], now: float) -> None:
        """Tell the bot this first, then all that the caller has said meanwhile."""
        self.link, self._keepalive = link, LinkKeepalive(link, self._limits, now)
        self._clock.begin(now)
        for message in first:
            link.send(pcm.encode(message))
        waited = self._backlog.take()
        for said in waited if self._heard_before else without_first_silence(waited):
            self._counts.to_bot += 1
            link.send(said)
        self._backlog.limit(int(self._limits.backlog * self._bytes_per_second))
        self._on_hold, self._heard_before = False, True

    def detach(self) -> None:
        """Keep what comes from now on."""
        self.link = self._keepalive = None

    def keep_less(self) -> None:
        """Keep less from now on: the caller hears hold audio."""
        if self._on_hold:
            return
        self._on_hold = True
        self._counts.dropped["no_bot"] += self._backlog.limit(
            int(self._limits.backlog_on_hold * self._bytes_per_second)
        )

    def add(self, data: bytes, now: float, *, lost: bool = False) -> None:
        """Pass this on, or keep it while there is no bot.

        data: PCM of the caller.
        lost: it is silence for media that were numbered and did not come.
        """
        if not self._clock.silence_owed:
            self._bytes_since_tick += len(data)
        elif not self._still_wanted(len(data), now, lost):
            self._counts.dropped["late"] += 1
            return
        if len(data) <= self._passed_whole:
            self._pass(data)
        else:  # a carrier with longer frames: the bot gets about 20 ms each, as from the others
            for at in range(0, len(data), self._frame_bytes):
                self._pass(data[at : at + self._frame_bytes])

    def _still_wanted(self, size: int, now: float, lost: bool) -> bool:
        """Whether to pass this on; the clock takes note of it then. False: silence has been heard in its place."""
        if self._bytes_since_tick:
            self._note_came(now)
        return self._clock.admit_late_audio(size / self._bytes_per_second, now, lost=lost)

    def _note_came(self, now: float) -> None:
        self._clock.audio_came(self._bytes_since_tick / self._bytes_per_second, now)
        self._bytes_since_tick = 0

    def tell(self, message: pcm.ToWorker) -> None:
        """Say something to the bot.

        Without one, a key waits among the caller's audio; all else is old news by then.
        """
        if self.link is not None:
            self.link.send(pcm.encode(message))
        elif isinstance(message, pcm.Dtmf) and not self._backlog.add_key(pcm.encode(message)):
            self._counts.dropped["keys"] += 1

    def tick(self, now: float) -> bool:
        """Fill in for media that did not come. True: the worker is lost."""
        if self._bytes_since_tick:
            self._note_came(now)
        missing = self._clock.silence_due(now)
        if self._keepalive is None:  # no bot, no clock: silence would only take the place of words in the backlog
            return False
        if missing:
            frames = int(missing * 1000 / FRAME_MS + 0.5)
            for _ in range(frames):
                self._pass(self._silence)
            self._clock.silence_given(frames * FRAME_MS / 1000, now)
        return self._keepalive.tick(now)

    def _pass(self, data: bytes) -> None:
        link, keepalive = self.link, self._keepalive
        if link is None or keepalive is None:
            self._counts.dropped["no_bot"] += self._backlog.add_audio(data)
        elif keepalive.slow or link.unsent > self._limits.link_unsent:
            self._counts.dropped["link_slow"] += 1
        else:
            self._counts.to_bot += 1
            link.send(data)


def without_first_silence(waited: list[BacklogItem]) -> list[BacklogItem]:
    """Return what has waited for the session's first bot, without the silence that it begins with.

    A bot that answers as it hears, an echo, an interpreter, would be late by it for the whole call.
    """
    spoken = next((at for at, item in enumerate(waited) if isinstance(item, bytes) and not is_quiet(item)), len(waited))
    return [item for item in waited[:spoken] if isinstance(item, str)] + waited[spoken:]
