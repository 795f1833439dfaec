"""What a worker with a call uses of the machine, read from /proc each few seconds.

Elsewhere than on Linux nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MEASURE_EVERY = 5.0
"""Seconds between two measurements of one worker."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Usage:
    """What one process uses, as last measured; 0: not known.

    cpu: thousandths of a core, since the measurement before.
    memory: bytes resident, with what a forked worker still shares with its fork server.
    """

    cpu: int = 0
    memory: int = 0
    _at: float = 0.0
    _seconds: float = 0.0
    """Seconds of CPU time at the last measurement."""

    def measure(self, pid: int, now: float) -> None:
        """Look at the process, unless that was done just now. now: loop time."""
        if not pid or (self._at and now - self._at < MEASURE_EVERY):
            return
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            # Counted from behind the name, which may have spaces and brackets in it: proc_pid_stat(5).
            fields = stat[stat.rindex(b")") + 2 :].split()
            seconds, memory = (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE
        except (OSError, ValueError, IndexError):  # it has ended, or this is no Linux
            return
        if self._at:
            self.cpu = round(1000 * max(0.0, seconds - self._seconds) / (now - self._at))
        self.memory, self._at, self._seconds = memory, now, seconds
