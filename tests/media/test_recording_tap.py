"""Pauses and resumes of a recording, in the order in which the bot has said them."""

from __future__ import annotations

import pytest

from gateway.media.recording_tap import RecordingTap


class Recorder:
    paused = False

    def start(self, *, paused):
        self.paused = paused

    def said(self, payload, now):
        pass

    def pause(self, now):
        self.paused = True

    def resume(self):
        self.paused = False


class Playout:
    """Plays for ever, until told that all has been heard."""

    def __init__(self):
        self.waiting = []

    def at_playback_end(self, action, now):
        self.waiting.append(action)
        return True


@pytest.fixture
def tap():
    tap = RecordingTap()
    tap.begin(Recorder(), paused=False, wait_for_bot=False)
    return tap


def test_an_operators_pause_outlives_the_bots_resume_that_waits(tap):
    playout = Playout()
    tap.resume_after(playout, tap.pauses, 0.0)
    tap.pause(0.0)
    playout.waiting[0]()
    assert tap.recorder.paused
    tap.resume()
    assert not tap.recorder.paused


def test_a_pause_outlives_a_resume_that_was_said_before_it(tap):
    playout = Playout()
    tap.pause(0.0)
    tap.resume_after(playout, tap.pauses, 0.0)
    tap.pause(0.0)
    [resume] = playout.waiting
    resume()
    assert tap.recorder.paused, "what is said now is not to be recorded"
    tap.resume_after(playout, tap.pauses, 0.0)
    playout.waiting[-1]()
    assert not tap.recorder.paused


def test_an_operators_pause_outlives_the_coming_of_the_bot():
    """The call has come from another node."""
    tap = RecordingTap()
    tap.begin(Recorder(), paused=False, wait_for_bot=True)
    tap.pause(0.0)
    tap.bot_joined(1.0)
    tap.tick(100.0)
    assert tap.recorder.paused


def test_each_switch_is_told(tap):
    told = []
    tap.on_switch = told.append
    tap.pause(0.0)
    tap.resume()
    assert told == [True, False]
