"""What a session does for its call's recording: the file, its place in the facts, pauses, the announcement."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from gateway.call_recording.spool import pack
from gateway.pool.facts import FactEvent, Facts
from gateway.sessions import control
from gateway.sessions.recording import NOT_RECORDED, close_recordings, note_recovered
from tests.kit.node import MEDIA, SERVICE, start
from tests.kit.waiting import until
from tests.sessions.test_control import begin, verbs
from tests.webhooks.test_transfer_in_vain import go_on

SPEECH = b"\x00\x20" * 320  # 20 ms at 16 kHz


@pytest.fixture
def service(service, tmp_path):
    return replace(service, recordings=str(tmp_path / "calls"), recording_format="wav")


@pytest.fixture(autouse=True)
def no_thread_is_left(gateway):
    yield
    gateway.node.recordings.close()


async def serving(gateway):
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    return bot, session


async def hang_up(gateway, carrier) -> str:
    """The caller goes. Returns the path that the facts have then."""
    [session] = gateway.sessions
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not gateway.sessions)

    async def recorded() -> str:
        return (await gateway.memory.find(session.id)).recording

    return await until(recorded)


async def speak(carrier, bot, frames: int = 10) -> None:
    for _ in range(frames):
        carrier.send(MEDIA)
        bot.socket.send(SPEECH)
        await asyncio.sleep(0.02)


async def test_the_facts_name_the_file_when_it_is_whole(gateway, tmp_path):
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot)
    path = Path(await hang_up(gateway, carrier))
    assert path == tmp_path / "calls" / f"{session.id}.wav"
    stereo, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000 and len(stereo) > 0.2 * rate, "the rate of the stream, though the bot has 16 kHz"
    assert abs(stereo[:, 1]).max() > 8000


async def test_a_lost_stream_goes_on_in_the_same_file(gateway, tmp_path):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    await speak(carrier, bot)
    carrier.socket.abort()
    again = await gateway.open(gateway.path_in(await gateway.resume(query="?gw_attempt=1")))
    again.send(start(stream_id="MZ2"))
    await bot.until("status")
    await speak(again, bot)
    await hang_up(gateway, again)
    assert len(list((tmp_path / "calls").iterdir())) == 1


async def test_a_call_that_comes_back_from_a_transfer_is_one_file(gateway, tmp_path):
    session, bot, carrier = await begin(gateway)
    await speak(carrier, bot)
    assert await control.transfer(gateway.sessions, session, "+1 555 0123") == control.Done()
    await carrier.until_closed()
    assert "Dial" in await verbs(gateway)
    await until(lambda: not gateway.sessions)
    again = await go_on(gateway, "twilio")
    [bot] = [bot for bot in gateway.bots if bot.of("start") and not bot.of("stop")]
    await speak(again, bot, 65)  # for a second it is paused: its bot may be about to say so
    path = Path(await hang_up(gateway, again))
    await until(lambda: not gateway.node.recording_tasks)
    assert path == tmp_path / "calls" / f"{session}.wav" and list(path.parent.iterdir()) == [path]
    heard = soundfile.read(path, dtype="int16")[0][:, 1]
    assert len(heard) > 1.5 * 8000 and np.abs(heard[-1600:]).max() > 8000, "of both streams"


async def test_the_bot_pauses_at_once_and_resumes_behind_its_words(gateway):
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    recorder = session.bridge.tap.recorder
    bot.socket.send(SPEECH * 10)
    bot.say(type="pause_recording")
    await until(lambda: recorder.paused)
    bot.socket.send(SPEECH * 10)  # a number read back
    bot.say(type="resume_recording")
    await carrier.until("media", 15)
    assert recorder.paused, "the caller has not heard it yet"
    await until(lambda: not recorder.paused)
    await hang_up(gateway, carrier)


async def test_the_api_pauses_and_resumes(gateway):
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot, 1)
    assert session.recording.pause(0.0) == "" and session.bridge.tap.recorder.paused
    assert session.recording.resume() == "" and not session.bridge.tap.recorder.paused
    await hang_up(gateway, carrier)
    assert session.recording.pause(0.0) == session.recording.resume() == NOT_RECORDED


async def test_a_call_that_goes_on_here_is_recorded_when_its_bot_can_say_no(gateway):
    """Its bot may have paused the recording on the other node, while the caller says a card number."""
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot, 1)
    await until(lambda: session.facts.streams)
    again = gateway.sessions.make(gateway.node.services.get(SERVICE), None, session.facts)
    again.recording.begin(0.0, goes_on=True)
    tap = again.bridge.tap
    assert tap.recorder.paused
    tap.bot_joined(10.0)
    tap.tick(10.9)
    assert tap.recorder.paused
    tap.tick(11.1)
    assert not tap.recorder.paused
    again.recording.finish(12.0)
    await hang_up(gateway, carrier)


async def paused_in_the_registry(gateway, session, paused: bool) -> None:
    async def known() -> bool:
        return (await gateway.memory.find(session.id)).recording_paused == paused

    await until(known, complain=f"the facts say paused={paused}")


async def test_a_pause_that_waits_for_the_registry_outlasts_the_stream(gateway, monkeypatch):
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot, 1)
    recorder, merge, answers = session.bridge.tap.recorder, gateway.memory.merge, asyncio.Event()

    async def slow_merge(*asked):
        await answers.wait()
        return await merge(*asked)

    session.recording.pause(0.0)
    await paused_in_the_registry(gateway, session, True)
    monkeypatch.setattr(gateway.memory, "merge", slow_merge)
    session.recording.resume()
    await until(lambda: not session.facts.recording_paused)
    session.recording.pause(0.0)
    session.recording.go_on(0.0)
    assert recorder.paused
    answers.set()
    await until(lambda: session.facts.recording_switches == 3)
    await hang_up(gateway, carrier)


@pytest.mark.parametrize("who", ["operator", "bot"])
async def test_a_pause_goes_with_the_call_to_another_session(gateway, who):
    """An operator's pause is in no bot's mind: nobody says it again."""
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot, 1)
    await until(lambda: session.facts.streams)
    if who == "operator":
        assert session.orders.take("pause_recording", "") == ""
    else:
        bot.say(type="pause_recording")
    await paused_in_the_registry(gateway, session, True)
    again = gateway.sessions.make(gateway.node.services.get(SERVICE), None, await gateway.memory.find(session.id))
    again.recording.begin(0.0, goes_on=True)
    tap = again.bridge.tap
    tap.bot_joined(10.0)
    tap.tick(20.0)
    assert tap.recorder.paused
    assert again.orders.take("resume_recording", "") == "" and not tap.recorder.paused
    await paused_in_the_registry(gateway, session, False)
    again.recording.finish(21.0)
    await hang_up(gateway, carrier)


async def test_a_bots_resume_behind_keys_is_older_than_an_operators_pause(gateway):
    """Twilio leaves the stream to press keys; what the bot said behind them comes when it is back."""
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    recorder = session.bridge.tap.recorder
    await speak(carrier, bot, 2)
    bot.say(type="pause_recording")
    bot.say(type="dtmf", digits="1")
    bot.say(type="resume_recording")
    await carrier.until_closed()
    assert session.orders.take("pause_recording", "") == ""
    again = await gateway.open(gateway.path_in(await gateway.resume(query="?gw_after=digits")))
    again.send(start(stream_id="MZ2"))
    await bot.until("status")
    bot.say(type="mark", name="behind")
    await again.until("mark")
    assert recorder.paused
    bot.say(type="resume_recording")
    await until(lambda: not recorder.paused)
    await hang_up(gateway, again)


class Noted:
    """Records that keep what is noted."""

    def __init__(self) -> None:
        self.facts: list[Facts] = []

    def note(self, facts: Facts) -> None:
        self.facts.append(facts)


@pytest.fixture
def lost(tmp_path) -> str:
    """What a killed gateway has left of a call; the path of its recording."""
    folder = tmp_path / "calls"
    folder.mkdir()
    entries = [("begin", 1.0, 1.0, b"16000"), ("caller", 1.0, 1.0, SPEECH)]
    (folder / "lost.wav.part").write_bytes(pack(entries))
    return str(folder / "lost.wav")


async def test_what_a_killed_gateway_left_is_noted(gateway, lost):
    await note_recovered(gateway.node)
    assert (await gateway.memory.find("lost")).recording == lost


async def test_what_was_left_is_noted_in_the_record_alone(gateway, lost):
    """The registry in memory has lost the call: facts of nothing but a recording would stand before its record."""
    noted = gateway.node.records = Noted()
    gateway.node.record_store = object()
    await note_recovered(gateway.node)
    assert await gateway.memory.find("lost") is None
    assert noted.facts == [Facts(session="lost", recording=lost)]


async def test_each_is_noted_before_the_next_is_made(gateway, lost):
    """A gateway that ends meanwhile has noted all that it has made: no next start would find those."""
    later = Path(lost).with_name("lost2.wav.part")
    later.write_bytes(Path(f"{lost}.part").read_bytes())
    waiting = []

    class Looks(Noted):
        def note(self, facts: Facts) -> None:
            waiting.append(later.exists())
            super().note(facts)

    noted = gateway.node.records = Looks()
    await note_recovered(gateway.node)
    assert [facts.session for facts in noted.facts] == ["lost", "lost2"]
    assert waiting == [True, False]


async def test_a_call_that_the_registry_knows_has_what_was_left(gateway, lost):
    gateway.node.record_store = object()
    await gateway.memory.merge("lost", FactEvent(created=1.0))
    await note_recovered(gateway.node)
    assert (await gateway.memory.find("lost")).recording == lost


async def test_files_that_are_made_at_the_end_are_noted(gateway, tmp_path):
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot)
    session.recording.finish(session._now())
    await close_recordings(gateway.node)
    assert session.facts.recording == str(tmp_path / "calls" / f"{session.id}.wav")
    await hang_up(gateway, carrier)


async def test_a_file_that_waits_long_is_told_and_noted_at_last(gateway, monkeypatch, tmp_path):
    monkeypatch.setattr("gateway.sessions.recording.SLOW", 0.05)
    monkeypatch.setattr("gateway.call_recording.writer.CONVERT_SHARE", -1.0)
    carrier = await gateway.call()
    bot, session = await serving(gateway)
    await speak(carrier, bot)
    with capture_logs() as said:
        session.recording.finish(session._now())
        await until(lambda: [line for line in said if "waits for its file" in line["event"] and line["waiting"] == 1])
    monkeypatch.undo()
    await until(lambda: session.facts.recording)
    await hang_up(gateway, carrier)


async def test_an_announcement_is_heard_before_the_bot_comes(gateway):
    services = gateway.node.services._by_host
    services[SERVICE] = replace(services[SERVICE], announcement=b"\x00\x10" * 16 * 300)  # 0.3 s
    loop = asyncio.get_running_loop()
    began = loop.time()
    carrier = await gateway.call()
    await carrier.until("media")
    assert not gateway.starts()
    await gateway.started()
    assert loop.time() - began >= 0.3
    heard = b"".join(base64.b64decode(m["media"]["payload"]) for m in carrier.heard if m["event"] == "media")
    assert len(heard) == 0.3 * 8000
    await hang_up(gateway, carrier)


async def test_a_call_that_ends_in_its_announcement_leaves_nothing(gateway):
    services = gateway.node.services._by_host
    services[SERVICE] = replace(services[SERVICE], announcement=b"\x00\x10" * 16000 * 9)
    carrier = await gateway.call()
    await carrier.until("media")
    await hang_up(gateway, carrier)
    assert not gateway.starts()


async def test_a_stream_that_is_refused_leaves_no_recorder(gateway, tmp_path):
    """A console that is set to another codec: each of its streams would keep a file open until the process ends."""
    carrier = await gateway.open(await gateway.stream_path())
    refused = start()
    refused["start"]["mediaFormat"] = {"encoding": "audio/opus", "sampleRate": 48000, "channels": 1}
    carrier.send(refused)
    assert await carrier.until_closed() == 1003
    recordings = gateway.node.recordings
    await until(lambda: not (recordings._new or recordings._recorders or recordings.waiting))
    assert not list((tmp_path / "calls").iterdir())
