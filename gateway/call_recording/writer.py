"""The one thread of a process that writes recordings."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import get_args

import structlog

from gateway.call_recording.folder import recover
from gateway.call_recording.recorder import CallRecorder, Result

log = structlog.get_logger(__name__)

WRITE_EVERY = 0.5
"""Seconds between two writes of one recording: what a killed process loses, with one `TURN_SECONDS`. Each write costs
two changes between this thread and the event loop's, more than its bytes do."""
TURN_SECONDS = 0.1
"""Seconds between two looks at what is due: a part of the recordings each time, so that the event loop never waits for
all of them, but several, as the second one finds the processor's caches warm."""
CONVERT_SHARE = 0.005
"""Seconds of each turn in which calls that are over are made into files: a twentieth of one core, and what the last
step takes beyond it, a millisecond or two."""
CLOSE_TIMEOUT = 20.0
"""Seconds for the rest of all recordings when the process ends. What is not done then, the next start does."""
MAX_FORGOTTEN = 100_000
"""Sessions that are never recorded again, as their caller is forgotten, some 10 MB; of more, the oldest have ended."""


class RecordingThread:
    """Writes the recordings of all calls, in a thread that starts with the first of them."""

    def __init__(self) -> None:
        self._new: list[CallRecorder] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._phase = itertools.count()
        self._recorders: list[CallRecorder] = []
        self._completing: list[tuple[CallRecorder, Iterator[None]]] = []
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self.results: dict[str, int] = {result: 0 for result in get_args(Result) if result}
        """What became of how many recordings."""

    @property
    def waiting(self) -> int:
        """Recordings of calls that are over whose file is still to be made."""
        return len(self._completing)

    def prepare(self, folders: Iterable[str]) -> Iterator[Path]:
        """Import what writing needs, and make files of what a killed process has left. Gives those.

        folders: of all services that record.
        """
        for folder in sorted(set(folders)):
            import soundfile  # noqa: F401 - here, as it takes 50 ms of the first call's audio

            yield from recover(folder)

    def record(
        self, session: str, folder: str, ending: str, rate: int, now: float, on_done: Callable[[Path | None], None]
    ) -> CallRecorder:
        """Begin a recording: see `CallRecorder`, whose `finish` ends it. now: loop time."""
        recorder = CallRecorder(session, folder, ending, rate, now, on_done)
        with self._lock:
            if session in self._forgotten:
                recorder.discard()
            self._new.append(recorder)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
                self._thread.start()
        return recorder

    def forget(self, sessions: Collection[str]) -> None:
        """Make no recording of these sessions, now or later. Files that are there stay: see `folder.remove_sessions`.

        From whichever thread.
        """
        sessions = frozenset(sessions)
        with self._lock:
            self._forgotten.update(dict.fromkeys(sessions))
            while len(self._forgotten) > MAX_FORGOTTEN:
                self._forgotten.popitem(last=False)
            running = [*self._new, *self._recorders, *(recorder for recorder, _ in self._completing)]
        for recorder in running:
            if recorder.session in sessions:
                recorder.discard()

    def close(self) -> None:
        """Finish all recordings, and end the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT)
            if self._thread.is_alive():
                log.warning("not all recordings were made: the next start does it", left=self.waiting)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.wait(TURN_SECONDS)
            with self._lock:
                new, self._new = self._new, []
                self._recorders += new
            now = time.monotonic()
            for recorder in new:
                spread = next(self._phase) * 0.618 % 1  # multiples of the golden ratio
                recorder.due = now + WRITE_EVERY * spread
            if stopping:
                for recorder in self._recorders:
                    recorder.finish()
            for recorder in tuple(self._recorders):
                if self._write(recorder, now):
                    with self._lock:
                        self._recorders.remove(recorder)
                        self._completing.append((recorder, recorder.complete()))
            self._complete_some(now + (CLOSE_TIMEOUT if stopping else CONVERT_SHARE))
            if stopping and not (self._recorders or self._completing or self._new):
                return

    def _write(self, recorder: CallRecorder, now: float) -> bool:
        """Write what is due. True: the recording is over."""
        if now < recorder.due and not recorder.finished:
            return False
        recorder.due = now + WRITE_EVERY
        return recorder.advance()

    def _complete_some(self, until: float) -> None:
        """Make files of calls that are over, one after another, up to this time."""
        while self._completing and time.monotonic() < until:
            recorder, steps = self._completing[0]
            try:
                done = next(steps, self) is self
            except Exception:
                log.exception("recording lost: a bug", session=recorder.session)
                done = True
            if done:
                with self._lock:
                    del self._completing[0]
                self.results[recorder.result or "failed"] += 1
            time.sleep(0)
