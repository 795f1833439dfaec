"""Where a call's recording, if there is one, taps the bridge."""

from __future__ import annotations

from collections.abc import Callable

from gateway.audio.format import AudioFormat
from gateway.call_recording.recorder import CallRecorder
from gateway.media.playout import Playout

PAUSE_REPEAT_SECONDS = 1.0
"""Seconds in which a bot that goes on with its call on another node has said again that the recording is paused."""


def _not_recorded(payload: bytes, now: float) -> None:
    """Take what is said in a call without a recording."""


class RecordingTap:
    """recorder: None where the call is not recorded. What the carrier is given goes to it directly; all else by this.

    on_switch: told of each pause (True) and each resume (False), by a bot or an operator.
    """

    def __init__(self) -> None:
        self.recorder: CallRecorder | None = None
        self.said: Callable[[bytes, float], None] = _not_recorded
        """Told of each payload of the caller's, in the stream's format, and when it came: loop time."""
        self.on_switch: Callable[[bool], None] = lambda paused: None
        self.pauses = 0
        """How many there have been: a resume that is older than the newest of them counts no more."""
        self._paused_until_bot_joins = False
        self._resume_at: float | None = None
        self._stream: tuple[AudioFormat, AudioFormat, float] | None = None
        """The last stream's formats, and when it came."""

    def begin(self, recorder: CallRecorder | None, *, paused: bool, wait_for_bot: bool) -> None:
        """Record; None: no more.

        paused: begin with a pause, until it is resumed.
        wait_for_bot: else it is paused until `PAUSE_REPEAT_SECONDS` after a bot has come.
        """
        self.recorder, self._paused_until_bot_joins = recorder, wait_for_bot and not paused
        self.said = _not_recorded if recorder is None else recorder.said
        if recorder is not None:
            recorder.start(paused=paused or wait_for_bot)
            if self._stream is not None:  # a caller on hold, whose bot speaks another protocol than expected
                recorder.stream(*self._stream)

    def bot_joined(self, now: float) -> None:
        """A bot has been told of the call."""
        if self._paused_until_bot_joins:
            self._paused_until_bot_joins, self._resume_at = False, now + PAUSE_REPEAT_SECONDS

    def stream(self, inbound: AudioFormat, outbound: AudioFormat, now: float) -> None:
        """A stream has come. inbound, outbound: the formats of what it brings and of what is sent to it."""
        self._stream = inbound, outbound, now
        if self.recorder is not None:
            self.recorder.stream(inbound, outbound, now)

    def cut(self, now: float) -> None:
        """What the caller has not heard yet is not heard any more."""
        if self.recorder is not None:
            self.recorder.cut(now)

    def tick(self, now: float) -> None:
        """Record from now on if the bot has had its time to say that it does not want to be."""
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            if self.recorder is not None:
                self.recorder.resume()

    def pause(self, now: float) -> None:
        """Record silence from now on, at once."""
        self._paused_until_bot_joins, self._resume_at = False, None
        self.pauses += 1
        if self.recorder is not None:
            self.recorder.pause(now)
            self.on_switch(True)

    def resume(self) -> None:
        """Record again, from now on."""
        self._paused_until_bot_joins, self._resume_at = False, None
        if self.recorder is not None:
            self.recorder.resume()
            self.on_switch(False)

    def resume_after(self, playout: Playout | None, pauses: int, now: float) -> None:
        """Record again when what the bot has said so far, a number read back, say, has been heard.

        pauses: as many as there were when it was asked for.
        """
        if self.pauses != pauses:
            return
        self._resume_at = None

        def resume() -> None:
            if self.pauses == pauses:  # else a pause has come while this waited, and counts
                self.resume()

        if playout is None or not playout.at_playback_end(resume, now):
            resume()
