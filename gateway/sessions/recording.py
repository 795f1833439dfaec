"""A session's recording: begun with its first stream, kept over its other streams, and noted when its file is whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from gateway.call_recording.folder import first_file, remove_sessions, session_of
from gateway.call_recording.recorder import CallRecorder
from gateway.errors import RegistryUnavailable
from gateway.media.bridge import Bridge
from gateway.media.relay import Relay
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.wire_records import remove_wires
from gateway.pool.facts import FactEvent, Facts
from gateway.sessions.latest_fact import LatestFact, RememberingSession

log = structlog.get_logger(__name__)


async def note_recovered(node: Node) -> None:
    """Find the recordings that a killed process has left, and note where each is as soon as its file is made.

    No later start would find those again. A second node's part of a recording is found by the first one's name.
    """
    folders = [service.recordings for service in node.services if service.recordings]
    recovered = node.recordings.prepare(folders)
    while path := await asyncio.to_thread(next, recovered, None):
        log.info("recording recovered", session=session_of(path))
        await _note_recovered(node, session_of(path), str(first_file(path)))


async def _note_recovered(node: Node, session: str, recording: str) -> None:
    """Note it in the session's record, and in its facts if it has any: else those would be of a recording alone."""
    node.records.note(Facts(session=session, recording=recording))
    try:
        if node.record_store is None or await node.registry.find(session) is not None:
            await node.registry.merge(session, FactEvent(recording=recording))
    except RegistryUnavailable:
        if node.record_store is None:
            log.warning("nothing knows of this recording: the registry is away", session=session)


def remove_recordings(node: Node, recordings: Mapping[str, str]) -> int:
    """Remove what this node has of these sessions' recordings, and record those no more that still run. In a thread.

    Also those of their wire. recordings: where each session's is by its record, "" if that does not say.
    Returns how many there were as files, without the wire.
    """
    node.recordings.forget(recordings.keys())
    node.wire.forget(recordings.keys())
    remove_wires((service.record for service in node.services), recordings)
    return remove_sessions((service.recordings for service in node.services), recordings)


SLOW = 900.0
"""Seconds: two hours of a call take the thread a minute. A file that waits longer is behind those of others."""
CLOSING = 5.0
"""Seconds at the end of the process to note the files that have been made."""
NOT_RECORDED = "this call is not recorded"


async def close_recordings(node: Node) -> None:
    """Finish all recordings of this process, and note where their files are. Other nodes' are theirs."""
    await asyncio.to_thread(node.recordings.close)
    if node.recording_tasks:
        _, left = await asyncio.wait(tuple(node.recording_tasks), timeout=CLOSING)
        for task in left:
            task.cancel()


async def _note(
    node: Node, session: str, written: asyncio.Future[Path | None], remember: Callable[[FactEvent], Awaitable[bool]]
) -> None:
    while not written.done():
        await asyncio.wait({written}, timeout=SLOW)
        if not written.done():
            log.warning(
                "a recording waits for its file: more is recorded than is made into files",
                session=session,
                waiting=node.recordings.waiting,
            )
    path = written.result()
    if path is not None:
        await remember(FactEvent(recording=str(path)))


def _set(written: asyncio.Future[Path | None], path: Path | None) -> None:
    if not written.done():
        written.set_result(path)


class SessionRecording:
    """Record a session, where its service records calls, and play the announcement."""

    def __init__(self, node: Node, service: Service, session: RememberingSession, bridge: Bridge | Relay) -> None:
        self._node = node
        self._service = service
        self._session = session
        self._bridge = bridge
        self._switches = session.facts.recording_switches
        self._fact = LatestFact(node, session, "recording")
        self._recorder: CallRecorder | None = None
        self._written: asyncio.Future[Path | None] | None = None
        self._announced_at = 0.0

    def begin(self, now: float, *, goes_on: bool) -> None:
        """Record from now on, unless that has begun.

        A call that was paused before, by an operator or a bot, stays paused. What its bot has said last on another node
        may be on its way: it is paused until the bot has been here for a moment, which says so again.

        goes_on: the call has had a stream before this session, here or on another node.
        """
        service, bridge = self._service, self._bridge
        if not service.recordings or isinstance(bridge, Relay) or self._written is not None:
            return
        self._written = asyncio.get_running_loop().create_future()
        self._recorder = self._node.recordings.record(
            self._session.id, service.recordings, service.recording_format, service.sample_rate, now, self._on_done
        )
        self._record(bridge, goes_on=goes_on)

    def _record(self, bridge: Bridge, *, goes_on: bool) -> None:
        bridge.tap.on_switch = self._keep
        self._learn_switches()
        bridge.record(self._recorder, paused=self._paused, wait_for_bot=goes_on)

    def use_bridge(self, bridge: Bridge | Relay) -> None:
        """Go on with the bridge of another protocol: a caller on hold was expected to get a bot of the other kind."""
        if isinstance(self._bridge, Bridge):
            self._bridge.record(None)
        self._bridge = bridge

    def go_on(self, now: float) -> None:
        """Record the stream that the bridge has now, with what the caller hears before that."""
        if isinstance(self._bridge, Relay):
            if self._service.recordings:
                log.warning("not recorded: the bot speaks the carrier's wire, and no PCM", session=self._session.id)
        elif self._recorder is not None:
            self._record(self._bridge, goes_on=False)
        else:
            self.begin(now, goes_on=False)
            self.announce(now)

    def announce(self, now: float) -> None:
        """Let the caller hear the service's announcement, ahead of the bot."""
        if self._service.announcement and isinstance(self._bridge, Bridge):
            self._announced_at = now + self._bridge.announce(self._service.announcement, now)

    async def announced(self, now: float) -> None:
        """Wait until the announcement has been heard, as far as we know."""
        await asyncio.sleep(max(0.0, self._announced_at - now))

    def _on_done(self, path: Path | None) -> None:
        """Called by the writer's thread."""
        written = self._written
        assert written is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends, and the file is there
            written.get_loop().call_soon_threadsafe(_set, written, path)

    def pause(self, now: float) -> str:
        """Record silence from now on. Returns why that is not possible, "" if it is done."""
        if self._recorder is None or isinstance(self._bridge, Relay):
            return NOT_RECORDED
        self._bridge.tap.pause(now)
        return ""

    def resume(self) -> str:
        """Record again, from now on. Returns why that is not possible, "" if it is done."""
        if self._recorder is None or isinstance(self._bridge, Relay):
            return NOT_RECORDED
        self._bridge.tap.resume()
        return ""

    def _keep(self, paused: bool) -> None:
        """Keep in the facts that it is paused, for the node that goes on with the call."""
        self._learn_switches()
        if paused != self._paused:
            self._switches += 1
            self._fact.write(FactEvent(recording_switches=self._switches))

    @property
    def _paused(self) -> bool:
        """True also while the facts do not say so yet, as a write of an older switch is out."""
        return self._switches % 2 == 1

    def _learn_switches(self) -> None:
        self._switches = max(self._switches, self._session.facts.recording_switches)

    def finish(self, now: float) -> None:
        """End the recording, and have the session remember where the file is, once it is whole. Idempotent."""
        recorder, self._recorder = self._recorder, None
        if recorder is None or self._written is None:
            return
        if isinstance(self._bridge, Bridge):
            self._bridge.record(None)
        recorder.finish(now)
        noting = _note(self._node, self._session.id, self._written, self._session.remember)
        task = self._node.spawn(noting, f"recording {self._session.id}")
        self._node.recording_tasks.add(task)
        task.add_done_callback(self._node.recording_tasks.discard)
