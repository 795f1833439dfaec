"""`Call` and its events: what a bot is written against.

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
"""Seconds without a report of what was played, after which nothing is unplayed: the gateway reports every second while
something is."""
HALF_SAMPLE = 2.0
"""Seconds for which the odd byte of one `play` waits for its other half. It belongs to a stream that comes in pieces;
before later speech it would make noise of all of it."""


class _Done:
    """An awaitable of what has been done already."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class Call:
    """One phone call, from the bot's side.

    Speaking after the call has ended does nothing. `clear`, `mark`, `send_dtmf`, `hangup`, `transfer`,
    `save_state`, `pause_recording` and `resume_recording` do not wait; what they return may be awaited or not.
    """

    def __init__(self, writer: LinkWriter) -> None:
        self._writer = writer
        self._conversation = writer.conversation
        self._odd_byte = b""
        self._odd_byte_at = 0.0
        self._resampling: tuple[int, Resampler] | None = None
        self._cleared = 0
        self._listening = False
        start = writer.conversation.start
        self.session_id = start.session_id
        """The key of this conversation, everywhere: API, logs, records."""
        self.service_host = start.service_host
        """The name of this bot's deployment."""
        self.sample_rate = start.sample_rate
        """Hz, of the audio both ways."""
        self.resumed = start.resumed
        """An earlier worker has served this conversation and was lost."""
        self.attempt = start.attempt
        """The number of worker starts in this conversation, this one included."""
        self.state = start.state
        """What the last worker has left with `save_state`, b"" if nothing."""

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
        self._writer.ready()
        if not self._listening:
            self._listening = True
            self._conversation.skip_first_silence()
        while True:
            event = self._conversation.next_event()
            if event is not None:
                return event
            if self._conversation.ended:
                raise StopAsyncIteration
            await self._writer.wait_for_event()

    async def digits(self, max: int = 1, end: str = "", timeout: float = 5.0) -> str:  # noqa: A002
        """Return the keys that the caller presses: at most `max` of them, up to a key of `end`, or until a pause.

        max: as many keys are enough.
        end: a key, or several, that ends the input; it is not returned. "": none does.
        timeout: seconds between two keys, and before the first one. For that one they begin when what was played so
        far has been heard: a caller does not press keys before they know what for, but may.
        Returns what came, "" for nothing; likewise when the call ends. A pause ends the input, and is no error.

        Keys that the bot has not read yet count: callers type ahead. Meanwhile no `Dtmf` comes from the iteration,
        and all else does: another task may go on with it, or the events wait for this one.
        Raises ValueError for `max` below 1, and RuntimeError while another task collects keys of this call.
        """
        if max < 1:
            raise ValueError(f"max is at least 1, not {max}")
        conversation, writer = self._conversation, self._writer
        if conversation.collecting:
            raise RuntimeError("another task collects the keys of this call: only one can")
        writer.ready()
        loop, pressed = asyncio.get_running_loop(), ""
        until = loop.time() + conversation.unplayed + timeout
        conversation.collect_keys()
        try:
            while len(pressed) < max:
                key = conversation.next_key()
                if key and key in end:
                    break
                if key:
                    pressed += key
                    until = loop.time() + timeout
                elif conversation.ended or not await writer.wait_for_key(until):
                    break
        finally:
            conversation.stop_collecting()
        return pressed

    # Speaking.

    async def play(self, pcm: Pcm, sample_rate: int | None = None) -> None:
        """Play to the caller, behind what was played before.

        pcm: 16 bit mono, native byte order: bytes in pieces of any length, or an int16 array of one dimension.
        sample_rate: Hz, if it is not the call's.
        Returns when all has been handed over, which is at once for a bot that speaks in real time: it waits while 30 s
        are unplayed, and for a lost connection to come back. Returns early after `clear`. The odd byte of a piece waits
        for the next one (2 s).
        Raises TypeError for what is not 16 bit samples, and ValueError for a rate that is not above 0.
        """
        audio, rate = _samples(pcm), sample_rate or self.sample_rate
        if rate <= 0:
            raise ValueError(f"a sample rate is above 0, not {rate}")
        cleared = self._cleared
        async with self._writer.turn:
            if self._cleared == cleared:
                audio = self._whole_samples(audio)
            for at in range(0, len(audio), rate * 2):
                await self._wait_for_room(cleared)
                if self._cleared != cleared or self._conversation.ended:
                    break
                self._writer.say_audio(self._at_link_rate(audio[at : at + rate * 2], rate))
        if self._conversation.ended:
            # A bot that only ever speaks must not keep the loop to itself after the end.
            await asyncio.sleep(0)

    def clear(self) -> Awaitable[None]:
        """Be silent now: drop everything that the caller has not heard yet, a `play` that is under way included."""
        self._cleared += 1
        self._odd_byte = b""
        if self._resampling is not None:
            self._resampling[1].reset()
        self._writer.say(wire.Clear())
        self._writer.wake_speaker()
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
        self._writer.say(wire.State(bytes(state)))
        return _DONE

    def pause_recording(self) -> Awaitable[None]:
        """Record silence for both sides from now on, at once: for card numbers and the like.

        It lasts until `resume_recording`, also if the connection to the gateway is lost and comes back. Without a
        recording it does nothing.
        """
        self._writer.record(False)
        return _DONE

    def resume_recording(self) -> Awaitable[None]:
        """Record again, from now on."""
        self._writer.record(True)
        return _DONE

    def _behind_audio(self, message: wire.ToGateway) -> Awaitable[None]:
        if not self._writer.turn.locked():
            self._odd_byte = b""
            self._finish_resampling()
        self._writer.say(message)
        return _DONE

    def _whole_samples(self, audio: bytes) -> bytes:
        """The audio behind the half sample that the last piece has left; its own half waits."""
        now = asyncio.get_running_loop().time()
        if self._odd_byte and now - self._odd_byte_at < HALF_SAMPLE:
            audio = self._odd_byte + audio
        whole = len(audio) & ~1
        self._odd_byte, self._odd_byte_at = audio[whole:], now
        return audio[:whole]

    async def _wait_for_room(self, cleared: int) -> None:
        """Wait until there is a link and it has not too much of our audio, or waiting is of no use any more."""
        conversation, writer = self._conversation, self._writer
        while not conversation.ended and self._cleared == cleared:
            if not writer.attached:
                await writer.wait_for_change(None)
            elif conversation.unplayed < PLAY_AHEAD:
                return
            else:
                reports = conversation.reports
                if not await writer.wait_for_change(REPORT_TIMEOUT) and conversation.reports == reports:
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
        """Send what is still in the filter: it belongs to what was played so far."""
        if self._resampling is not None:
            _, stream = self._resampling
            self._resampling = None
            self._writer.say_audio(stream.flush().tobytes())


def _samples(pcm: Any) -> bytes:
    try:
        view = memoryview(pcm)
    except TypeError:
        raise TypeError(f"play takes bytes or an int16 array, not {type(pcm).__name__}") from None
    if view.ndim != 1 or view.format.lstrip("<=@") not in ("h", "B", "b", "c"):
        raise TypeError(f"play takes int16 samples, mono; this is {view.ndim}-dimensional, of type {view.format!r}")
    return view.tobytes()
