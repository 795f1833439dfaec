"""What operators want done with a session that runs here: done behind what the bot has said, as what a bot wants is."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from gateway.media.types import MediaPath
from gateway.protocol.codes import EndReason
from gateway.sessions.commands import CommandedSession, no_keys, no_way_back
from gateway.sessions.duration_limit import LAST_WORDS
from gateway.sessions.events import AT_ONCE, EndSession, OrderedTransfer, OrderKind, SessionEvent
from gateway.sessions.recording import SessionRecording

MAX_ORDERS = 64
"""Transfers and hang-ups that may wait for the bot's words to be heard. Beyond that a program floods."""
FLOOD = "too many commands are waiting"


class OrderedSession(CommandedSession, Protocol):
    """What is needed of a session."""

    @property
    def bridge(self) -> MediaPath:
        """What joins its stream and its bot."""

    @property
    def recording(self) -> SessionRecording:
        """Its recording, if there is one."""

    def post(self, event: SessionEvent) -> None:
        """Wake the session's task."""


class Orders:
    """Carry out operators' orders on one running session."""

    def __init__(self, session: OrderedSession) -> None:
        self._session = session
        self._now = asyncio.get_running_loop().time
        self._waiting = 0

    def take(self, kind: OrderKind, value: str) -> str:
        """Take an order. Returns why it is refused, "" if it is accepted.

        Keys, a transfer and a hang-up are carried out when what the bot has said by now has been heard. A hang-up waits
        at most LAST_WORDS for that, and not at all if its value is AT_ONCE. A transfer that fails then is logged.
        value: a number, or keys.
        """
        session = self._session
        match kind:
            case "pause_recording":
                return session.recording.pause(self._now())
            case "resume_recording":
                return session.recording.resume()
            case "digits":
                refusal = no_keys(session, value)
                if not refusal:
                    session.bridge.send_keys(value, self._now())
                return refusal
            case "hangup" if value == AT_ONCE:  # what ends a flood is never refused for it
                session.post(EndSession(EndReason.API_HANGUP))
            case "transfer" | "hangup" if self._waiting >= MAX_ORDERS:
                return FLOOD
            case "transfer":
                if refusal := no_way_back(session):
                    return refusal
                self._after_playback(OrderedTransfer(value))
            case "hangup":
                end = EndSession(EndReason.API_HANGUP)
                self._after_playback(end)
                asyncio.get_running_loop().call_later(LAST_WORDS, session.post, end)
        return ""

    def _after_playback(self, event: SessionEvent) -> None:
        self._waiting += 1
        self._session.bridge.after_playback(partial(self._post, event), self._now())

    def _post(self, event: SessionEvent) -> None:
        self._waiting -= 1
        self._session.post(event)
