"""One call's recorder: the media path appends what was said and heard, the writer's thread puts it on the disk.

The media path pays one append per frame, and never waits. While the recording is paused it appends nothing, so that
what must not be recorded is in no queue either.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import structlog

from gateway.audio.format import AudioFormat
from gateway.call_recording.convert import write_format
from gateway.call_recording.folder import MIN_FREE, OpenRecording, create, free_bytes, reason, remove
from gateway.call_recording.spool import Entry, Kind, pack
from gateway.errors import RecordingError

log = structlog.get_logger(__name__)

MAX_QUEUE = 3000
"""Frames that wait for the thread: 30 s of both sides. Further ones are dropped and counted; silence keeps their
time."""
MAX_CONTROL = 1000
"""Further places for what is no audio. If even these are full the recording ends, so that it never contains what a lost
pause would have hidden."""
Result: TypeAlias = Literal["", "made", "cut_short", "empty", "failed", "discarded"]
"""What became of a recording: "" while that is open. One that was cut short ends before its call. Of a failed one the
next start makes what there is, if anything could be written. An empty one is of a call without audio."""
CHECK_DISK = 10.0
"""Seconds of a recording between two looks at the free space."""


class CallRecorder:
    """See the module's docstring. Times are loop time, in seconds.

    folder, ending: as the service's `recordings` and `recording_format`. rate: Hz, of the file at most: it has that of
    the stream.
    on_done: called by the writer's thread with the file's path when it is written, with None if there is none.
    """

    def __init__(
        self, session: str, folder: str, ending: str, rate: int, began: float, on_done: Callable[[Path | None], None]
    ) -> None:
        self.session = session
        self.dropped = 0
        """Frames that found the queue full."""
        self._paused = False
        self.due = 0.0
        """Monotonic seconds at which the writer's thread looks at it next."""
        self._queue: deque[Entry] = deque([("begin", began, began, f"{rate} {time.time():.6f}".encode())])
        self._folder = folder
        self._ending = ending
        self._on_done = on_done
        self._closed = self._failed = self._discarded = False
        self.result: Result = ""
        self._checked = began
        self._open: OpenRecording | None = None

    @property
    def finished(self) -> bool:
        """True when only the rest is still to be written."""
        return self._closed

    # The media path's side.

    @property
    def paused(self) -> bool:
        """True while silence is recorded, and for good once the recording is discarded."""
        return self._paused or self._discarded

    def start(self, *, paused: bool) -> None:
        """Record from now on, or begin with a pause."""
        self._paused = paused

    def said(self, payload: bytes, now: float) -> None:
        """Note what the caller said. payload: in the stream's format."""
        if self.paused:
            return
        if len(self._queue) >= MAX_QUEUE:
            self.dropped += 1
        else:
            self._queue.append(("caller", now, now, payload))

    def heard(self, payload: bytes, now: float, start: float) -> None:
        """Note what the carrier was given. payload: in the stream's format. start: when it is played."""
        if self.paused:
            return
        if len(self._queue) >= MAX_QUEUE:
            self.dropped += 1
        else:
            self._queue.append(("bot", now, start, payload))

    def stream(self, inbound: AudioFormat, outbound: AudioFormat, now: float) -> None:
        """Note the formats of what is said and of what is heard from now on."""
        self._control("caller_format", now, write_format(inbound))
        self._control("format", now, write_format(outbound))

    def cut(self, now: float) -> None:
        """Note that nothing that was given to the carrier, and not yet played, is heard."""
        self._control("cut", now)

    def pause(self, now: float) -> None:
        """Record silence for both sides from now on, for what is still to be heard, too."""
        if not self.paused:
            self._paused = True
            self._control("silence", now)

    def resume(self) -> None:
        """Record again."""
        self._paused = False

    def finish(self, now: float | None = None) -> None:
        """Let the thread write what is left and make the file. now: the end; None: that of what was written."""
        if not self._closed:
            if now is not None:
                self._control("end", now)
            self._closed = True

    def _control(self, kind: Kind, now: float, data: bytes = b"") -> None:
        if len(self._queue) < MAX_QUEUE + MAX_CONTROL:
            self._queue.append((kind, now, now, data))
        else:  # rather no more recording than one that missed a pause
            self._give_up(RecordingError("more pauses and cuts than the queue holds"))
            self._closed = True

    def discard(self) -> None:
        """Make no recording: its caller is to be forgotten. By whichever thread."""
        self._discarded = self._failed = self._closed = True

    # The thread's side.

    def advance(self) -> bool:
        """Write down what has come. True: that was all, and `complete` is to make the file."""
        closed = self._closed  # before the queue is looked at: then all of it is there
        entries = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            if entries and not self._failed:
                self._write(entries)
        except OSError as error:
            self._give_up(error)
        except Exception:  # a bug in one call's recording must not end those of all
            log.exception("recording ended early: a bug", session=self.session)
            self._failed = True
        return closed

    def _write(self, entries: list[Entry]) -> None:
        if self._open is None:
            self._open = create(self._folder, self.session, self._ending)
        self._open.write(pack(entries))
        now = entries[-1][1]
        if now - self._checked > CHECK_DISK:
            self._checked = now
            if free_bytes(self._folder) < MIN_FREE:
                raise OSError("the disk is nearly full")

    def _give_up(self, error: Exception) -> None:
        """End the recording, not the call; what is written stays."""
        if not self._failed:
            log.error("recording ended early", session=self.session, error=reason(error))
        self._failed = True

    def complete(self) -> Iterator[None]:
        """Make the file, a step each time, and tell where it is."""
        path = None
        if self.dropped:
            log.warning("a recording has silence for what was dropped", session=self.session, frames=self.dropped)
        self.result = "failed"
        try:
            if self._open is not None and not self._discarded:
                path = self._open.path if (yield from self._open.complete()) else None
            elif self._open is not None:
                self._open.discard()
            if self._discarded and path is not None:  # while the file was being made
                remove(path)
                path = None
            if self._discarded:
                self.result = "discarded"
            elif path is None:
                self.result = "failed" if self._failed else "empty"
            else:
                self.result = "cut_short" if self._failed else "made"
        except (OSError, RecordingError) as error:
            log.error("a recording was not made, the next start tries again", session=self.session, error=reason(error))
        finally:
            self._on_done(path)
