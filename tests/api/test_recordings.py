"""A recording is served when its call has ended, whole or a range of it, and never a file of elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.api.files import byte_range
from gateway.pool.facts import FactEvent
from gateway.records.database import migrate, open_engine
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter
from tests.api.serving import api_of, problem
from tests.kit.waiting import until
from tests.sessions.test_control import begin
from tests.sessions.test_recording import hang_up, speak

FILE = bytes(range(256)) * 1000
PATH = "/v1/calls/abc/recording"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "calls"
    made.mkdir()
    return made


@pytest.fixture
def service(service, folder):
    return replace(service, recordings=str(folder), recording_format="wav")


@pytest.fixture(autouse=True)
def no_thread_is_left(gateway):
    yield
    gateway.node.recordings.close()


@pytest.fixture
async def recorded(gateway, folder):
    """A call that ended, and its file."""
    file = folder / "abc.flac"
    file.write_bytes(FILE)
    await gateway.node.registry.merge("abc", FactEvent(status="ended", created=1.0, recording=str(file)))
    return file


async def test_a_recording_is_served_whole(http, recorded):
    answer = await http.get(PATH)
    assert (answer.status_code, answer.content) == (200, FILE)
    assert answer.headers["content-type"] == "audio/flac"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == 'attachment; filename="abc.flac"'
    head = await http.head(PATH)
    assert (head.headers["content-length"], head.content) == (str(len(FILE)), b"")


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100000-", 100_000, 255_999),
        ("bytes=-1", 255_999, 255_999),
        ("bytes=5-9999999", 5, 255_999),
    ],
)
async def test_a_range_of_it(http, recorded, wanted, first, last):
    answer = await http.get(PATH, headers={"range": wanted})
    assert (answer.status_code, answer.content) == (206, FILE[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(FILE)}"


async def test_a_range_that_there_is_not(http, recorded):
    answer = await http.get(PATH, headers={"range": "bytes=256000-"})
    problem(answer, 416)
    assert answer.headers["content-range"] == "bytes */256000"


async def test_a_range_of_an_older_file_is_the_whole(http, recorded):
    changed = (await http.get(PATH)).headers["last-modified"]
    for condition, status in ((changed, 206), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)):
        answer = await http.get(PATH, headers={"range": "bytes=0-9", "if-range": condition})
        assert answer.status_code == status


@pytest.mark.parametrize("text", ["", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-1", "bytes=0-1,5-6", "lines=0-1"])
def test_what_is_no_range_is_the_whole(text):
    assert byte_range(text, 10) == (0, 9)


def test_an_empty_file_has_no_range():
    assert byte_range("bytes=0-", 0) is None and byte_range("bytes=-5", 0) is None
    assert byte_range("", 0) == (0, -1)


async def test_an_empty_file_is_served(http, recorded):
    recorded.write_bytes(b"")
    assert (await http.get(PATH)).content == b""


async def test_the_parts_of_a_recording_that_went_on(http, recorded, folder):
    (folder / "abc.2.flac").write_bytes(b"second")
    assert (await http.get(f"{PATH}?part=2")).content == b"second"
    problem(await http.get(f"{PATH}?part=3"), 404)
    problem(await http.get(f"{PATH}?part=0"), 422)


async def test_no_file_of_elsewhere_is_served(gateway, http, tmp_path, folder):
    (tmp_path / "secret.flac").write_bytes(b"secret")
    (folder / "gateway.toml").write_bytes(b"secret")
    (folder / "link.flac").symlink_to(tmp_path / "secret.flac")
    paths = [tmp_path / "secret.flac", folder / ".." / "secret.flac", folder / "gateway.toml", folder / "link.flac"]
    for number, path in enumerate(paths):
        await gateway.node.registry.merge(f"c{number}", FactEvent(status="ended", created=1.0, recording=str(path)))
        problem(await http.get(f"/v1/calls/c{number}/recording"), 404)


async def test_a_file_that_was_removed(http, recorded):
    recorded.unlink()
    problem(await http.get(PATH), 404)


async def test_a_call_that_runs_has_none_yet_and_is_paused(gateway, http):
    session, bot, stream = await begin(gateway)
    await speak(stream, bot)
    path = f"/v1/calls/{session}/recording"
    problem(await http.get(path), 409)
    for what in ("pause", "resume"):
        assert (await http.post(f"{path}/{what}")).status_code == 202
    [live] = gateway.sessions
    await http.post(f"{path}/pause")
    assert live.recording._recorder.paused
    await hang_up(gateway, stream)
    assert (await http.get(path)).content[:4] == b"RIFF"
    problem(await http.post(f"{path}/pause"), 409)


async def test_a_call_that_runs_is_forgotten_with_its_recording(gateway, folder, tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    writer, store = RecordWriter(engine), DatabaseStore(engine)
    session, bot, stream = await begin(gateway)
    await speak(stream, bot)
    await until(lambda: list(folder.iterdir()))
    [live] = gateway.sessions
    writer.note(live.facts)
    assert await writer.write_batch()
    async with api_of(gateway.sessions, store=store) as http:
        answer = await http.delete(f"/v1/callers/{live.facts.from_number}")
        assert answer.json() == {"calls": 1, "recordings": 1}
        await speak(stream, bot)
        stream.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
        await until(lambda: not gateway.sessions and not gateway.node.recording_tasks)
        problem(await http.get(f"/v1/calls/{session}/recording"), 404)
        assert (await http.get(f"/v1/calls/{session}")).json()["from"] == "***"
    assert list(folder.iterdir()) == []
    await engine.dispose()


async def test_an_unknown_call_has_none(http):
    problem(await http.get("/v1/calls/nothing/recording"), 404)
    problem(await http.post("/v1/calls/nothing/recording/pause"), 404)


async def test_a_call_that_was_not_recorded(gateway, http):
    await gateway.node.registry.merge("abc", FactEvent(status="ended", created=1.0))
    problem(await http.get(PATH), 404)
