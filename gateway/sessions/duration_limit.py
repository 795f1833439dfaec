"""The longest duration of a call: the bot is warned, what it has said by then is heard, and then the call ends."""

from __future__ import annotations

from collections.abc import Callable

from gateway.media.types import MediaPath
from gateway.protocol import pcm

WARNING = 30.0
"""Seconds before the end at which the bot is told of it: long enough to say goodbye. Half of a shorter call."""
LAST_WORDS = 10.0
"""Seconds behind the end in which the bot's last words are heard. A bot may have two minutes of speech waiting."""


class DurationLimit:
    """Warn a call's bot of its end, and end the call. Times are loop time, in seconds.

    longest: of the whole call.
    spent: how much of that is over, if another node has had the call before.
    """

    def __init__(self, longest: float, spent: float, now: float) -> None:
        self.ends_at = now + longest - max(0.0, spent)
        self.warns_at = self.ends_at - min(WARNING, longest / 2)
        self._warned = self._ending = False

    @property
    def due(self) -> float:
        """When to call `advance`."""
        if self._ending:
            return self.ends_at + LAST_WORDS
        return self.ends_at if self._warned else self.warns_at

    def advance(self, bridge: MediaPath, end: Callable[[], None], now: float) -> bool:
        """Do what is due. True: the call must end now, whatever the bot still says.

        end: ends the call; it is called when the caller has heard what the bot said in time.
        """
        if not self._warned and now >= self.warns_at:
            self._warned = True
            bridge.tell(self.warning(now))
        if not self._ending and now >= self.ends_at:
            self._ending = True
            bridge.after_playback(end, now)
        return now >= self.ends_at + LAST_WORDS

    def warning(self, now: float) -> pcm.Status:
        """Return what bots are told from `warns_at` on: in how many seconds the call ends."""
        return pcm.Status("ending", {"seconds": round(max(0.0, self.ends_at - now), 1)})
