"""Finds workers that are late or without a heartbeat, says so, then has them killed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from gateway.protocol.workers import WorkerEnd
from gateway.worker.handle import WorkerHandle
from gateway.worker.starts import StartTimes

log = logging.getLogger(__name__)

START_LIMIT = 300.0
"""Seconds from the request for a worker to its being ready; prewarm() may load a model."""
SLOW_START_AFTER = 3.0
"""Seconds after which a start is said to take long, as long as none has succeeded: callers wait for it."""
SILENT_AFTER = 5.0
"""Seconds without a heartbeat, of which there is one every 2, after which that is said, with its usual cause."""
HUNG_AFTER = 15.0
"""Seconds without a heartbeat after which a worker is killed. The gateway has given up on its link after 10."""

Kill = Callable[[WorkerHandle, str, WorkerEnd], None]
"""Called with a worker that is stuck, with why, and with what its end is counted as."""


class Watchdog:
    """See the module's docstring.

    start_times: how long this bot's starts have taken.
    kill: ends a worker.
    """

    def __init__(self, start_times: StartTimes, kill: Kill) -> None:
        self._start_times = start_times
        self._kill = kill
        self._said_slow = False

    def check(self, workers: Iterable[WorkerHandle], late: float, now: float) -> None:
        """Look at each worker once.

        late: seconds by which this check is late.
        now: loop time.
        """
        stopped = late > HUNG_AFTER / 5  # we were: those that could not reach us have another chance
        for worker in workers:
            if stopped:
                worker.heard = now
            if worker.talking:
                worker.usage.measure(worker.pid, now)
            if worker.report.state == "starting":
                self._check_start(worker, now - worker.started_at)
            elif now - worker.heard > HUNG_AFTER:
                why = f"has not answered for {HUNG_AFTER:g} s (stopped, or its bot blocks the loop)"
                self._kill(worker, why, "hung")
            else:
                _note_silence(worker, now - worker.heard > SILENT_AFTER)

    def _check_start(self, worker: WorkerHandle, seconds: float) -> None:
        if seconds > START_LIMIT:
            self._kill(worker, f"was not ready after {START_LIMIT:g} s", "slow_start")
        elif seconds > SLOW_START_AFTER and not self._start_times.known and not self._said_slow:
            self._said_slow = True
            log.info("worker %s is not ready after %g s (slow prewarm()?); callers wait", worker.id, SLOW_START_AFTER)


def _note_silence(worker: WorkerHandle, silent: bool) -> None:
    """Log, once each time, that no heartbeat comes, long before that ends the worker."""
    if silent and not worker.said_silent and not worker.killed:
        log.warning(
            "worker %s has not answered for %g s: does its bot block the loop? Write `await asyncio.sleep(…)` for "
            "time.sleep, and `await asyncio.to_thread(f)` for what takes long",
            worker.id,
            SILENT_AFTER,
            extra={"session": worker.report.session},
        )
    worker.said_silent = silent
