"""Counts and logs the workers' ends that should not have been, with the likely cause."""

from __future__ import annotations

import logging
from collections import Counter

from gateway.protocol.workers import WorkerEnd
from gateway.worker.handle import WorkerHandle
from gateway.worker.starts import Backoff

log = logging.getLogger(__name__)


class EndLog:
    """See the module's docstring. backoff: of the fleet's failed starts."""

    def __init__(self, backoff: Backoff) -> None:
        self.counts: Counter[WorkerEnd] = Counter()
        """How many ended how, of those that should not have."""
        self._backoff = backoff

    def note(self, worker: WorkerHandle, *, draining: bool, now: float) -> None:
        """Count and log a worker's end, the first time that it is noted.

        draining: the host has told it to end.
        now: loop time.
        """
        if worker.end_noted:
            return
        worker.end_noted = True
        state, session = worker.report.state, worker.report.session
        if draining or worker.killed or state == "done" or (state == "busy" and worker.status == 0):
            return
        how = worker.how_it_ended()
        if state == "busy":
            self.counts["died_in_call"] += 1
            cause = worker.likely_cause()
            log.warning("worker %s ended during its call: %s%s", worker.id, how, cause, extra={"session": session})
        elif worker.retry_seconds is None:
            self.counts["died_idle"] += 1
            log.warning("worker %s ended while it was idle: %s", worker.id, how)
        else:
            self.counts["unusable"] += 1
            if self._backoff.should_tell(how, now):  # what fails again and again is said once a while
                log.warning(
                    "worker %s failed to start: %s%s; retrying in %.1f s, with growing pauses",
                    worker.id,
                    how,
                    worker.likely_cause(),
                    worker.retry_seconds,
                )

    def note_kill(self, worker: WorkerHandle, why: str, end: WorkerEnd | None) -> None:
        """Count and log that the host kills a worker. end: what it counts as; None: as nothing."""
        if end is not None:
            self.counts[end] += 1
        log.warning("worker %s %s: killed", worker.id, why, extra={"session": worker.report.session})
