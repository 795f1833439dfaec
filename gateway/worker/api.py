"""What a bot is written against: `Call` and its events.

    async def bot(call: Call) -> None:
        async for event in call:                # Audio | Dtmf | Mark | Status
            if isinstance(event, Audio):
                await call.play(event.pcm)

The thin asyncio side of `conversation`. One task reads the events; any task may speak.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.protocol import pcm as wire
from gateway.worker.conversation import Audio, Dtmf, Event, Mark, Status
from gateway.worker.link_writer import LinkWriter

if TYPE_CHECKING:  # numpy and pydantic are imported when a bot needs them: they are most of a worker's start
    import numpy as np
    import numpy.typing as npt

    from gateway.audio.resample import Resampler
    from serializers.call_data import CallData

    Pcm: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.int16]

__all__ = ["Audio", "Call", "Dtmf", "Event", "Mark", "Status"]

PLAY_AHEAD = 30.0
"""Seconds of unplayed audio from which `play` waits. The gateway holds 120; a caller interrupts long before."""
REPORT_TIMEOUT = 5.0
"""Seconds without a word of what was played. The gateway reports every second while something is unplayed, so
nothing is."""


class _Done:
    """What has been done already may be awaited all the same."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class Call:
    """One phone call, from the bot's side.

    Speaking after the call has ended does nothing. `clear`, `mark`, `send_dtmf`, `hangup`, `transfer` and
    `save_state` take effect at once; what they return may be awaited or not.
    """

    def __init__(self, line: LinkWriter) -> None:
        self._line = line
        self._conversation = line.conversation
        self._resampling: tuple[int, Resampler] | None = None
        self._cleared = 0
        start = line.conversation.start
        self.session_id = start.session_id
        """The key of this conversation, everywhere: API, logs, records."""
        self.service_host = start.service_host
        """The name of this bot's deployment."""
        self.sample_rate = start.sample_rate
        """Of the audio both ways, Hz."""
        self.resumed = start.resumed
        """An earlier worker has served this conversation and was lost."""
        self.attempt = start.attempt
        """Worker starts in this conversation, this one included."""
        self.state = start.state
        """What the last worker left with `save_state`, b"" if nothing."""

    @cached_property
    def data(self) -> CallData:
        """Who calls whom, and what the flow's author or the API's caller gave along (`data.body`)."""
        from serializers.call_data import CallData

        return CallData.from_wire(self._conversation.start.call)

    @property
    def end_reason(self) -> str:
        """Why the call is over, an `EndReason` ("caller_hangup", …); "" while it is not."""
        return self._conversation.end_reason

    # Listening.

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event. Ends when the call has, and all that was heard before has been read."""
        self._line.ready()
        while True:
            event = self._conversation.next_event()
            if event is not None:
                return event
            if self._conversation.ended:
                raise StopAsyncIteration
            await self._line.event()

    # Speaking.

    async def play(self, pcm: Pcm, sample_rate: int | None = None) -> None:
        """Play to the caller, behind what was played before.

        pcm: 16 bit mono, native byte order: bytes, or an int16 array of one dimension. sample_rate: Hz, if it is
        not the call's. Returns when all has been handed over, which is at once for a bot that speaks in real time:
        it waits while 30 s are unplayed, and for a lost connection to come back. Returns early after `clear`.
        Raises TypeError or ValueError for what is not 16 bit samples.
        """
        audio, rate = _samples(pcm), sample_rate or self.sample_rate
        if rate <= 0:
            raise ValueError(f"a sample rate is above 0, not {rate}")
        cleared = self._cleared
        async with self._line.turn:
            for at in range(0, len(audio), rate * 2):
                await self._room(cleared)
                if self._cleared != cleared or self._conversation.ended:
                    break
                self._line.say_audio(self._at_link_rate(audio[at : at + rate * 2], rate))
        if self._conversation.ended:
            # A bot that only ever speaks must not keep the loop to itself after the end.
            await asyncio.sleep(0)

    def clear(self) -> Awaitable[None]:
        """Be silent now: drop everything that the caller has not heard yet, a `play` that is under way included."""
        self._cleared += 1
        if self._resampling is not None:
            self._resampling[1].reset()
        self._line.say(wire.Clear())
        self._line.wake_speaker()
        return _DONE

    def mark(self, name: str) -> Awaitable[None]:
        """Ask to be told, by a `Mark` event, when all that was played so far has been heard."""
        return self._behind_audio(wire.SetMark(name))

    def send_dtmf(self, digits: str) -> Awaitable[None]:
        """Press keys (0-9 * # A-D, w and W to wait), when all that was played so far has been heard."""
        return self._behind_audio(wire.SendDtmf(digits))

    def hangup(self, reason: str = "") -> Awaitable[None]:
        """End the call, when all that was played so far has been heard. The events end when it has ended."""
        return self._behind_audio(wire.Hangup(reason))

    def transfer(self, to: str) -> Awaitable[None]:
        """Hand the caller over to a number, when all that was played so far has been heard.

        If it succeeds the call ends for the bot; otherwise there is a `Status` that says so.
        """
        return self._behind_audio(wire.Transfer(to))

    def save_state(self, state: bytes) -> Awaitable[None]:
        """Leave this for the worker that goes on if this one dies; the last one counts.

        Raises ValueError for more than 16 KB.
        """
        if len(state) > wire.MAX_STATE:
            raise ValueError(f"a state is at most {wire.MAX_STATE} bytes, not {len(state)}")
        self._line.say(wire.State(bytes(state)))
        return _DONE

    def _behind_audio(self, message: wire.ToGateway) -> Awaitable[None]:
        if not self._line.turn.locked():
            self._finish_resampling()
        self._line.say(message)
        return _DONE

    async def _room(self, cleared: int) -> None:
        """Wait until there is a link and it has not too much of our audio, or there is no point in waiting."""
        conversation, line = self._conversation, self._line
        while not conversation.ended and self._cleared == cleared:
            if not line.attached:
                await line.change(None)
            elif conversation.unplayed < PLAY_AHEAD:
                return
            else:
                reports = conversation.reports
                if not await line.change(REPORT_TIMEOUT) and conversation.reports == reports:
                    conversation.forget_unplayed()

    def _at_link_rate(self, audio: bytes, rate: int) -> bytes:
        if self._resampling is not None and self._resampling[0] != rate:
            self._finish_resampling()
        if rate == self.sample_rate:
            return audio
        import numpy as np

        if self._resampling is None:
            from gateway.audio.resample import resampler

            self._resampling = rate, resampler(rate, self.sample_rate)
        return self._resampling[1].process(np.frombuffer(audio, np.int16)).tobytes()

    def _finish_resampling(self) -> None:
        """What is still in the filter belongs to what was played so far."""
        if self._resampling is not None:
            _, stream = self._resampling
            self._resampling = None
            self._line.say_audio(stream.flush().tobytes())


def _samples(pcm: Any) -> bytes:
    try:
        view = memoryview(pcm)
    except TypeError:
        raise TypeError(f"play takes bytes or an int16 array, not {type(pcm).__name__}") from None
    if view.ndim != 1 or view.format.lstrip("<=@") not in ("h", "B", "b", "c"):
        raise TypeError(f"play takes int16 samples, mono; this is {view.ndim}-dimensional, of type {view.format!r}")
    if view.nbytes % 2:
        raise ValueError(f"play takes whole 16 bit samples; {view.nbytes} bytes are none")
    return view.tobytes()
