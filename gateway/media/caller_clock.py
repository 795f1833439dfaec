"""Keeps the bot's clock going: silence by the wall clock in place of media that did not come. Sans-I/O.

A bot tells time by the audio that it is sent. When a carrier stops sending, or loses audio that it has not numbered,
the bot's clock would stand still, and stay behind for the rest of the call. So silence takes the place of what did not
come, for as long as the carrier is there, and audio that comes after all is left out where silence was heard already.

Before the first audio there is nothing to keep: carriers start when they like. Jitter brings no silence: what is late
catches up with its schedule, what is lost never does.
"""

from __future__ import annotations

from serializers.lost_media import MAX_SECONDS

STOPPED = 1.0
"""Seconds without media after which silence takes their place. Linux's TCP sends a lost segment again after 0.2 s, and
once more 0.4 s later (RFC 6298 doubles): what comes within a second is late, and its words matter more than its time.
"""

LATE = 0.4
"""Seconds by which audio may stay late without silence being put in: twice the jitter that carriers are seen with."""

SETTLED = 1.0
"""Seconds after which late audio has come if it comes at all, in one burst when the way is free again. Audio counts as
lost when its stream has been late for so long; after silence, audio counts as late for so long."""

EARLY = 0.06
"""Seconds before its time at which audio after silence is part of such a burst: three frames, as jitter delays some."""

DRIFT = 0.0005
"""How far a carrier's clock may be from ours, in seconds per second: crystals are ten times better (50 ppm)."""

MAX_TICK = 0.1
"""At most so many seconds between two ticks count as silence of the carrier's. In a longer time this process did not
run, and what the carrier sent meanwhile is still to be read."""

ROUNDING = 1e-6


class CallerClock:
    """Schedules the caller's audio, tick by tick.

    All values are in seconds; `now` is monotonic.

    Tell it of each piece of audio by `audio_came`; while silence is owed, ask `admit_late_audio` instead. Each tick,
    give the bot `silence_due()` seconds of silence, and tell `silence_given`. The relay, which learns a length only
    afterwards, uses `audio_of_unknown_length_came`, then `set_length`.

    silence_owed: silence that was heard and whose audio may still come.
    """

    def __init__(self) -> None:
        self.silence_owed = 0.0
        self._due: float | None = None  # when the next audio is due; None: none has come yet
        self._heard = 0.0  # when media came last, less the time in which this process did not run
        self._ticked = 0.0
        self._late_since: float | None = None
        self._least_late = 0.0  # the least seconds late since `_late_since`
        self._settled_at = 0.0
        self._in_burst = False

    def begin(self, now: float) -> None:
        """Start a new bot's clock."""
        self.silence_owed, self._late_since = 0.0, None
        if self._due is not None:
            self._due = now

    def audio_came(self, seconds: float, now: float) -> None:
        """Take note of audio that has come since the last tick, and was passed on."""
        due = now if self._due is None else self._due
        if self._late_since is not None or now - due > LATE:
            self._note_late(now - due, now)
        if due > now and not self.silence_owed:  # the quickest so far sets the schedule
            due = now
        self._heard = now
        self._due = due + seconds + seconds * DRIFT

    def audio_of_unknown_length_came(self, now: float) -> None:
        """Take note of audio whose length is not known: the next is due now."""
        self._due = self._heard = now
        self._late_since = None

    def set_length(self, seconds: float) -> None:
        """Say how long the audio was that was not known."""
        if self._due is not None:
            self._due += seconds

    def admit_late_audio(self, seconds: float, now: float, *, lost: bool = False) -> bool:
        """Return whether to pass this on, while silence is owed; what is passed on is taken note of.

        False: silence has been heard in its place.

        seconds: its length.
        lost: it is silence itself, for media that were numbered and did not come.
        """
        early = 0.0 if self._due is None else self._due - now
        late = lost or early > (ROUNDING if self._in_burst else max(EARLY, seconds) + ROUNDING)
        self._in_burst = late and not lost
        self._heard = now
        if late:
            self.silence_owed = max(0.0, self.silence_owed - seconds)
            return False
        self.audio_came(seconds, now)
        return True

    def silence_due(self, now: float) -> float:
        """Return how much silence is due. Called once a tick.

        What is given of it is told to `silence_given`.
        """
        elapsed, self._ticked = now - self._ticked, now
        if self._due is None:
            return 0.0
        if elapsed > MAX_TICK:  # after a suspension, or at the first tick, unread media count as heard just now
            self._heard = min(now, self._heard + elapsed - MAX_TICK)
        if now - self._heard > STOPPED:  # the carrier has stopped
            self._late_since = None
            self._due = max(self._due, now - MAX_SECONDS)
            return now - self._due
        if self._late_since is not None and now - self._late_since > SETTLED:  # it goes on, and something was lost
            self._late_since = None
            return min(self._least_late, MAX_SECONDS)
        if self.silence_owed and now > self._settled_at:
            self.silence_owed = 0.0
        return 0.0

    def silence_given(self, seconds: float, now: float) -> None:
        """Take note of silence that was given to the bot."""
        if self._due is not None:
            self._due += seconds
        self.silence_owed += seconds
        self._settled_at = now + SETTLED

    def _note_late(self, late: float, now: float) -> None:
        if late <= LATE:
            self._late_since = None
        elif self._late_since is None:
            self._late_since, self._least_late = now, late
        else:
            self._least_late = min(self._least_late, late)
