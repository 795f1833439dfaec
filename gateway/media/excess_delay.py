"""Finds delay between bot and caller that the bot did not make on purpose. Sans-I/O.

A real-time bot that has once been held up is late from then on: what it said meanwhile comes at once, and stands
unplayed in front of all that follows. And where its clock runs faster than the carrier's (50 ppm are 180 ms in an hour)
the same grows little by little. Neither goes away by itself, and both can be worked off by leaving out silence.

A bot that keeps a second ahead of the caller, or sends 30 s of speech at once, has as much standing unplayed and means
it: its pauses must arrive. The difference is in the bot's schedule, which goes on as fast as speech is spoken:

* a bot that comes before its schedule has sent a burst, and what stands unplayed by that is its lead;
* one that comes after it, and then catches up with it, was held up: its lead is what it was before;
* one that stays behind its schedule has paused: a new schedule begins, and what stands unplayed then is its lead.

Excess is what stands unplayed beyond the lead. Drift moves the schedule too slowly to be any of the three.
"""

from __future__ import annotations

BURST_EARLY = 0.06
"""Seconds before its schedule at which a bot has sent a burst: three frames, as the network delays some."""
PAUSE_AFTER = 1.0
"""Seconds that a bot stays behind its schedule before it has paused: TCP repairs a loss in less."""
BOT_DRIFT = 0.002
"""How far two clocks drift apart at most, in seconds per second: forty times what crystals do (50 ppm)."""
DRY = 0.02
"""Seconds unplayed, a frame, at which the caller has heard everything."""
ROUNDING = 1e-6


class ExcessDelay:
    """Judges each piece of audio of one bot as it comes. All values are in seconds.

    max_excess: excess that may stand for any time: all that jitter needs shows as moments without any.
    stop_below: excess at which leaving out silence stops, once it has begun.
    stand_seconds: for so long the excess must have stood.
    jitter: by how much audio may be late without being a stall or a pause.
    """

    def __init__(self, *, max_excess: float, stop_below: float, stand_seconds: float, jitter: float) -> None:
        self._max_excess = max_excess
        self._stop_below = stop_below
        self._stand_seconds = stand_seconds
        self._jitter = jitter
        self._started = False
        self._due = 0.0  # when the next audio comes, by the schedule
        self._lead = 0.0
        self._since = 0.0  # the excess has stood since then
        self._excessive = False
        self._late = False
        self._greatest_early = 0.0  # the greatest `early` while late; negative
        self._greatest_early_since = 0.0
        self._in_burst = False
        self.excess = 0.0
        """Of what came before the newest audio."""
        self._caller_ran_dry = False  # the caller had heard everything when the first late audio came
        self._ran_dry_at = 0.0

    def reset(self) -> None:
        """Begin a new schedule with the next audio, as after a clear."""
        self._started = self._excessive = False

    def should_trim(self, length: float, unplayed: float, now: float) -> bool:
        """True if this audio should be left out, provided that it is silence.

        length: of the audio that has come.
        unplayed: of what came before it, which is at its lowest just now.
        """
        if not self._started:
            self._started, self._late, self._caller_ran_dry, self._in_burst = True, False, False, False
            self._due, self._lead, self._since = now, 0.0, now
        early = self._due - now
        # What follows a burst is part of it, however little early: the lead is all of it.
        burst = early > (ROUNDING if self._in_burst else BURST_EARLY)
        self._in_burst = burst
        if burst:
            self._note_burst(early, unplayed, now)
        elif early >= -BURST_EARLY:  # on schedule, which moves with the bot's clock: drift never adds up to a burst
            self._late = False
            self._due -= min(max(early, -BOT_DRIFT * length), BOT_DRIFT * length)
        else:
            self._note_late(early, unplayed, now)
        self.excess = unplayed - self._lead
        if self.excess <= (self._stop_below if self._excessive else self._max_excess):
            self._since = now
        self._due += length
        self._excessive = now - self._since > self._stand_seconds
        return self._excessive

    def _note_burst(self, early: float, unplayed: float, now: float) -> None:
        """Add what comes early to the bot's lead.

        After a pause that has just ended, all that is unplayed is its lead.
        """
        self._lead += early
        if self._caller_ran_dry and now - self._ran_dry_at < PAUSE_AFTER:
            self._lead = max(self._lead, unplayed)
        self._due = self._since = now
        self._late = False

    def _note_late(self, early: float, unplayed: float, now: float) -> None:
        """Wait whether the bot catches up with its schedule.

        If it comes no nearer for a while, it has paused.
        """
        if not self._late:
            self._caller_ran_dry, self._ran_dry_at = unplayed <= DRY, now
        if not self._late or early > self._greatest_early + BURST_EARLY:
            self._late, self._greatest_early, self._greatest_early_since = True, early, now
        elif now - self._greatest_early_since > PAUSE_AFTER:
            # If the caller had heard everything, what is unplayed now is the bot's new lead. Otherwise the pause has
            # used up a part of the old one.
            self._lead = unplayed if self._caller_ran_dry else max(0.0, self._lead + early)
            self._due, self._late = now, False
        if early < -self._jitter:
            self._since = now
