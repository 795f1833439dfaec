"""How late the load itself is.

A load that is late must not say that the gateway is slow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.simulator import clock
from gateway.simulator.load.percentiles import Percentiles

TICK = 0.02


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The lateness of our own that is allowed, in ms.

    Beyond it our delays are about us and no longer about the gateway.
    """

    frames_p99: float = 10.0
    """Half a frame. Later than that, and frames of one call go out in pairs, as no carrier sends them."""
    frames_max: float = 200.0
    """A gateway's usual playout lead: a longer pause is heard as a gap, and would be ours."""
    loop_p99: float = 10.0
    """What comes in is stamped so much too late; a good gateway's echo delay is 5 to 10 ms in all."""
    starts_p99: float = 100.0
    """A webhook's answer takes 10 to 100 ms. Calls that start later than that start together, not at the rate."""


TOLERANCE = Tolerance()


class Lateness:
    """The lateness of frames, starts of calls and the event loop's own timers, in ms.

    Each against its absolute deadline.
    """

    def __init__(self) -> None:
        self.frames = Percentiles()
        self.starts = Percentiles()
        self.loop = Percentiles()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def watch_loop(self) -> None:
        """Measure the running loop's lag, every 20 ms, until `stop`."""
        self._due = clock.now() + TICK
        self._timer = clock.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = clock.now()
        self.loop.note((now - self._due) * 1000)
        # The ticks that a pause has swallowed were late, too: each by what was left of the pause.
        self._due += TICK
        while self._due <= now:
            self.loop.note((now - self._due) * 1000)
            self._due += TICK
        self._timer = clock.call_at(self._due, self._tick)

    def faults(self, tolerance: Tolerance) -> list[str]:
        """Say what was late, a phrase each; nothing if delays may be reported."""
        checks = (
            ("frames were sent {:.0f} ms late (p99; {:.0f} allowed)", self.frames.p99, tolerance.frames_p99),
            ("a frame was sent {:.0f} ms late ({:.0f} allowed)", self.frames.max, tolerance.frames_max),
            ("its event loop lagged {:.0f} ms (p99; {:.0f} allowed)", self.loop.p99, tolerance.loop_p99),
            ("calls were started {:.0f} ms late (p99; {:.0f} allowed)", self.starts.p99, tolerance.starts_p99),
        )
        return [said.format(was, may) for said, was, may in checks if was is not None and was > may]
