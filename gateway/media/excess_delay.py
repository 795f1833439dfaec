"""Delay that never goes away by itself: a real-time bot that has once been held up is late ever after. Sans-I/O.

What it said meanwhile comes at once and stands unplayed in front of all that follows; and where its clock runs faster
than the carrier's (50 ppm are 180 ms in an hour) the same grows by and by. A bot that sends 30 s of speech at once has
as much standing unplayed, and means it. The two are told apart by how audio flows: only where it has come as fast as it
is spoken for some seconds, and the caller was behind all that time, has the bot nothing from that delay.
"""

from __future__ import annotations


class ExcessDelay:
    """Judges each audio of one bot as it comes. Seconds.

    most: what may stand unplayed when the next audio comes. enough: to here delay is worked off, once it is. patience:
    for so long it must have stood, in a steady flow. steady: how early or late audio may be in such a flow; earlier is
    a burst, later a pause.
    """

    def __init__(self, *, most: float, enough: float, patience: float, steady: float) -> None:
        self._most = most
        self._enough = enough
        self._patience = patience
        self._steady = steady
        self._due = 0.0
        """When the next audio comes, if it comes as fast as it is spoken."""
        self._since = 0.0
        """The flow has been steady, and the delay has stood, since then."""
        self._excessive = False

    def judge(self, length: float, unplayed: float, now: float) -> bool:
        """Audio of this length has come. Should it be left out, if it is silence?

        unplayed: of what came before it. That is at its lowest just now.
        """
        if abs(self._due - now) > self._steady:
            self._due = self._since = now
        elif unplayed <= (self._enough if self._excessive else self._most):
            self._since = now
        self._due += length
        self._excessive = now - self._since > self._patience
        return self._excessive
