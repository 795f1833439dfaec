from __future__ import annotations

import array
import asyncio
import json
from typing import Any

import numpy as np
import pytest

import gateway.worker
from gateway.protocol import pcm
from gateway.worker import Audio, Call, Dtmf, Mark, Status, api, echo
from gateway.worker.conversation import Conversation
from gateway.worker.link_writer import LinkWriter
from tests.kit.waiting import PATIENCE

RATE = 16000
SECOND = b"\x01\x00" * RATE
CALL = {
    "from": "+15550100",
    "to": "+15550199",
    "call_id": "CA1",
    "stream_id": "MZ1",
    "body": {"a": 1},
    "carrier": "twilio",
}


class Wire:
    """A link that keeps what is sent: JSON objects and bytes."""

    unsent = 0
    last_received = last_pong = 0.0

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, data: str | bytes) -> None:
        self.sent.append(json.loads(data) if isinstance(data, str) else data)

    def ping(self) -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def abort(self) -> None: ...

    @property
    def audio(self) -> bytes:
        return b"".join(m for m in self.sent if isinstance(m, bytes))

    @property
    def words(self) -> list[Any]:
        return [m for m in self.sent if not isinstance(m, bytes) and m != {"type": "ready"}]


class Scene:
    def __init__(self, **start: Any) -> None:
        fields = {"session_id": "s1", "service_host": "a.b", "carrier": "twilio", "fence": 1, "call": CALL}
        self.writer = LinkWriter(Conversation(pcm.Start(**{**fields, "sample_rate": RATE, **start})))
        self.wire = Wire()
        self.writer.attach(self.wire)
        self.call = Call(self.writer)

    def hear(self, message: bytes | dict[str, Any]) -> None:
        if isinstance(message, dict):
            self.writer.received(json.dumps(message).encode(), text=True)
        else:
            self.writer.received(message, text=False)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_public_names() -> None:
    assert gateway.worker.__all__ == ["Audio", "Call", "Dtmf", "Mark", "Status"]


async def test_a_call_tells_who_it_is() -> None:
    call = Scene(resumed=True, attempt=2, state=b"left").call
    assert (call.session_id, call.service_host, call.resumed, call.attempt, call.state) == (
        "s1",
        "a.b",
        True,
        2,
        b"left",
    )
    assert call.sample_rate == RATE and call.end_reason == ""
    assert call.data.from_number == "+15550100" and call.data["to"] == "+15550199"
    assert call.data.body == {"a": 1}


async def test_iteration_gives_events_as_they_come_and_ends_with_the_call() -> None:
    s = Scene()
    heard: list[object] = []

    async def bot() -> None:
        async for event in s.call:
            heard.append(event)

    task = asyncio.create_task(bot())
    await settle()
    assert s.wire.sent == [{"type": "ready"}]
    s.hear(b"\x01\x02")
    await settle()
    s.hear({"type": "dtmf", "digit": "#"})
    s.hear({"type": "mark", "name": "m", "played": False})
    s.hear({"type": "status", "status": "human"})
    await settle()
    assert heard == [Audio(b"\x01\x02", RATE), Dtmf("#"), Mark("m", False), Status("human")]
    s.hear({"type": "stop", "reason": "caller_hangup"})
    await asyncio.wait_for(task, PATIENCE)
    assert s.call.end_reason == "caller_hangup"


async def test_two_readers_are_told_that_only_one_can() -> None:
    s = Scene()
    task = asyncio.create_task(anext(s.call))
    await settle()
    with pytest.raises(RuntimeError, match="only one"):
        await anext(s.call)
    s.writer.end("bot_hangup")
    with pytest.raises(StopAsyncIteration):
        await task


async def test_play_sends_messages_of_a_second_at_most() -> None:
    s = Scene()
    await s.call.play(SECOND * 2 + b"\x05\x00")
    assert [len(m) for m in s.wire.sent if isinstance(m, bytes)] == [RATE * 2, RATE * 2, 2]
    assert s.wire.sent[0] == {"type": "ready"}


@pytest.mark.parametrize(
    "pcm_like",
    [
        b"\x01\x00\x02\x00",
        bytearray(b"\x01\x00\x02\x00"),
        memoryview(b"\x01\x00\x02\x00"),
        array.array("h", [1, 2]),
        np.array([1, 2], np.int16),
        np.array([1, 9, 2, 9], np.int16)[::2],
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "numpy", "numpy, every other"],
)
async def test_play_takes_what_holds_16_bit_samples(pcm_like: Any) -> None:
    s = Scene()
    await s.call.play(pcm_like)
    assert s.wire.audio == b"\x01\x00\x02\x00"


@pytest.mark.parametrize(
    ("pcm_like", "error"),
    [
        ("text", TypeError),
        (None, TypeError),
        (np.zeros(4, np.float32), TypeError),
        (np.zeros((2, 2), np.int16), TypeError),
    ],
)
async def test_play_says_what_it_cannot_play(pcm_like: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="play takes"):
        await Scene().call.play(pcm_like)


@pytest.mark.parametrize("length", [1, 3, 1001, 1003, 32001])
@pytest.mark.parametrize("rate", [RATE, 8000])
async def test_play_takes_pieces_of_any_length(length: int, rate: int) -> None:
    audio = (10000 * np.sin(np.arange(16000) / 10)).astype(np.int16).tobytes()
    pieces, whole = Scene(), Scene()
    for at in range(0, len(audio), length):
        await pieces.call.play(audio[at : at + length], sample_rate=rate)
    await whole.call.play(audio, sample_rate=rate)
    for scene in (pieces, whole):
        scene.call.mark("end")
    assert pieces.wire.audio == whole.wire.audio and (rate != RATE or whole.wire.audio == audio)
    assert all(len(m) % 2 == 0 for m in pieces.wire.sent if isinstance(m, bytes))


@pytest.mark.parametrize("then", ["mark", "clear", "two seconds"])
async def test_half_a_sample_spoils_no_later_speech(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = Scene()
    await s.call.play(b"\x01\x00\x02")
    if then == "two seconds":
        monkeypatch.setattr(api, "HALF_SAMPLE", 0.0)
    else:
        s.call.mark("end") if then == "mark" else s.call.clear()
    await s.call.play(b"\x03\x00\x04\x00")
    assert s.wire.audio == b"\x01\x00\x03\x00\x04\x00"


async def test_half_a_sample_does_not_cross_a_clear_that_ends_a_waiting_play() -> None:
    s = Scene()
    first = asyncio.create_task(s.call.play(SECOND * 40 + b"\x07"))
    waiting = asyncio.create_task(s.call.play(b"\x08"))
    await settle()
    s.call.clear()
    await asyncio.wait_for(asyncio.gather(first, waiting), PATIENCE)
    s.hear({"type": "cleared", "played_ms": 0, "dropped_ms": 30000})
    before = len(s.wire.audio)
    await s.call.play(b"\x05\x00")
    assert s.wire.audio[before:] == b"\x05\x00"


async def test_play_at_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        await Scene().call.play(b"\0\0", sample_rate=-1)


@pytest.mark.parametrize("rate", [8000, 24000, 48000, 22050])
async def test_play_at_another_rate_is_resampled_and_a_mark_brings_the_rest(rate: int) -> None:
    s = Scene()
    tone = (10000 * np.sin(2 * np.pi * 400 * np.arange(rate) / rate)).astype(np.int16)
    for block in np.array_split(tone, 50):
        await s.call.play(block, sample_rate=rate)
    s.call.mark("end")
    got = np.frombuffer(s.wire.audio, np.int16)
    assert abs(len(got) - RATE) <= RATE // 50
    assert s.wire.sent[-1] == {"type": "mark", "name": "end"}
    assert np.abs(np.fft.rfft(got[:RATE].astype(float))).argmax() == pytest.approx(400, abs=10)


async def test_a_change_of_rate_finishes_what_was_played_before() -> None:
    s = Scene()
    await s.call.play(np.full(800, 1000, np.int16), sample_rate=8000)
    await s.call.play(b"\x07\x00", sample_rate=RATE)
    got = np.frombuffer(s.wire.audio, np.int16)
    assert got[-1] == 7 and 1600 <= len(got) <= 1700


async def test_play_waits_while_30_seconds_are_unplayed() -> None:
    s = Scene()
    task = asyncio.create_task(s.call.play(SECOND * 35))
    await settle()
    assert len(s.wire.audio) == 30 * RATE * 2 and not task.done()
    s.hear({"type": "played", "ms": 2500})
    await settle()
    assert len(s.wire.audio) == 33 * RATE * 2
    s.hear({"type": "status", "status": "human"})  # wakes, and changes nothing
    await settle()
    s.hear({"type": "played", "ms": 20000})
    await asyncio.wait_for(task, PATIENCE)
    assert len(s.wire.audio) == 35 * RATE * 2


async def test_clear_ends_a_play_that_waits_and_frees_the_room_when_answered() -> None:
    s = Scene()
    task = asyncio.create_task(s.call.play(SECOND * 60))
    await settle()
    s.call.clear()
    await asyncio.wait_for(task, PATIENCE)
    assert len(s.wire.audio) == 30 * RATE * 2 and s.wire.words == [{"type": "clear"}]
    s.hear({"type": "cleared", "played_ms": 1000, "dropped_ms": 29000})
    await asyncio.wait_for(s.call.play(SECOND), PATIENCE)
    assert len(s.wire.audio) == 31 * RATE * 2


async def test_clear_forgets_what_the_resampler_holds() -> None:
    s = Scene()
    await s.call.play(np.full(800, 1000, np.int16), sample_rate=8000)
    s.call.clear()
    before = len(s.wire.audio)
    await s.call.play(np.zeros(800, np.int16), sample_rate=8000)
    assert not any(s.wire.audio[before:])


async def test_a_gateway_that_reports_nothing_has_nothing_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "REPORT_TIMEOUT", 0.01)
    s = Scene()
    await asyncio.wait_for(s.call.play(SECOND * 40), PATIENCE)
    assert len(s.wire.audio) == 40 * RATE * 2


async def test_two_that_play_at_once_are_not_mixed() -> None:
    s = Scene()
    a, b = b"\x0a\x00" * RATE * 31, b"\x0b\x00" * RATE
    tasks = [asyncio.create_task(s.call.play(x)) for x in (a, b)]
    await settle()
    s.hear({"type": "played", "ms": 30000})
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert s.wire.audio == a + b


async def test_words_behind_the_audio_and_whether_awaited_or_not() -> None:
    s = Scene()
    s.call.mark("a")
    await s.call.mark("b")
    await s.call.send_dtmf("12#")
    await s.call.transfer("+15550123")
    await s.call.save_state(b"\x00\xff")
    await s.call.clear()
    await s.call.hangup()
    assert s.wire.words == [
        {"type": "mark", "name": "a"},
        {"type": "mark", "name": "b"},
        {"type": "dtmf", "digits": "12#"},
        {"type": "transfer", "to": "+15550123"},
        {"type": "state", "state": "AP8="},
        {"type": "clear"},
        {"type": "hangup", "reason": ""},
    ]


async def test_a_state_beyond_16_kb_is_refused_here() -> None:
    with pytest.raises(ValueError, match="at most 16384"):
        Scene().call.save_state(bytes(16 * 1024 + 1))


async def test_speaking_after_the_end_does_nothing_and_lets_the_loop_live() -> None:
    s = Scene()
    s.hear({"type": "stop", "reason": "caller_hangup"})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10):
        await s.call.play(SECOND)
        s.call.mark("m")
    task.cancel()
    assert s.wire.sent == [] and turns >= 9


async def test_while_no_link_is_there_words_wait_and_play_waits() -> None:
    s = Scene()
    await s.call.play(SECOND)
    s.writer.detach()
    s.call.mark("waits")
    task = asyncio.create_task(s.call.play(b"\x09\x00"))
    await settle()
    assert s.wire.words == [] and not task.done() and not s.writer.attached
    new = Wire()
    s.writer.conversation.attached()
    s.writer.attach(new)
    await asyncio.wait_for(task, PATIENCE)
    assert new.sent == [{"type": "ready"}, {"type": "mark", "name": "waits"}, b"\x09\x00"]
    assert await anext(s.call) == Status("reattached")


async def test_play_does_not_wait_for_a_link_after_the_end() -> None:
    s = Scene()
    s.writer.detach()
    task = asyncio.create_task(s.call.play(SECOND))
    await settle()
    s.writer.end("stream_lost")
    await asyncio.wait_for(task, PATIENCE)


async def test_the_echo_bot_says_back_what_it_hears() -> None:
    s = Scene()
    task = asyncio.create_task(echo.bot(s.call))
    s.hear(b"\x01\x02\x03\x04")
    s.hear({"type": "dtmf", "digit": "1"})
    await settle()
    s.hear({"type": "stop", "reason": "caller_hangup"})
    await asyncio.wait_for(task, PATIENCE)
    assert s.wire.sent == [{"type": "ready"}, b"\x01\x02\x03\x04"]
