"""`gateway calls`: from the database, as a table, JSON and CSV, and what changes."""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
from dataclasses import replace

import httpx
import pytest

from gateway.__main__ import main
from gateway.api.models import CallFilters
from gateway.cli.call_filters import NAMES
from gateway.cli.call_sources import ApiSource, DatabaseSource
from gateway.cli.calls import COLUMNS, Watch, _list, add_arguments, cells, newest
from gateway.records.base import Record
from gateway.records.database import migrate, open_engine
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter, WriterLimits
from tests.kit.waiting import until
from tests.records.calls import CALL, COMPLETED, HANGUP, INBOUND, STREAM, facts_of

OTHER = replace(INBOUND, created=130.0, from_number="sip:\x1b[2Jeve@example.com", direction="outbound")


@pytest.fixture
def url(tmp_path, monkeypatch):
    url = f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    monkeypatch.setenv("GATEWAY_RECORDS", url)
    monkeypatch.setenv("TZ", "UTC")
    return url


@pytest.fixture
def database(url):
    asyncio.run(write(url, facts_of(*CALL), facts_of(OTHER, session="s2")))


async def write(url: str, *calls) -> None:
    engine = open_engine(url)
    await migrate(engine)
    writer = RecordWriter(engine, limits=WriterLimits(linger=0.0))
    for facts in calls:
        writer.note(facts)
    assert await writer.write_batch()
    await writer.close()


@pytest.mark.usefixtures("database")
def test_a_table_of_at_most_80_columns(capsys):
    assert main(["calls"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["time", "carrier", "from", "to", "state", "talk"]
    assert first.split()[2:] == ["twilio", ">", "+15550100001", "+15550100000", "caller_hangup", "0:11"]
    assert second.split()[2:] == ["twilio", "<", "sip:?[2Jeve@…", "+15550100000", "ringing", "-"]
    assert sum(width + 1 for _, width in COLUMNS) <= 80
    assert {len(line) for line in (head, first, second)} == {75}


@pytest.mark.usefixtures("database")
def test_json_in_the_names_of_the_contract(capsys):
    assert main(["calls", "--json", "--limit", "1"]) == 0
    (call,) = json.loads(capsys.readouterr().out)
    assert list(call) == list(Record(session_id="").to_dict())
    assert (call["session_id"], call["status"]) == ("s2", "ringing")


@pytest.mark.usefixtures("database")
def test_csv_has_a_line_of_names(capsys):
    assert main(["calls", "--csv"]) == 0
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["from"], first["duration_s"], json.loads(first["body"])) == ("+15550100001", "11.0", {"plan": "gold"})
    assert second["ended_at"] == ""


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "s1 s2"),
        ("--status ended", "s1"),
        ("--status queued", ""),
        ("--direction outbound", "s2"),
        ("--carrier twilio", "s1 s2"),
        ("--carrier plivo", ""),
        ("--service-host support.acme --direction inbound", "s1"),
        ("--service-host sales.acme", ""),
        ("--from +15550100001", "s1"),
        ("--to +15550100000", "s1 s2"),
        ("--since 1970-01-01T00:02:10Z", "s2"),
        ("--until 1970-01-01T01:02:10+01:00", "s1"),
    ],
)
def test_the_filters_of_the_api(flags, expected, capsys):
    assert main(["calls", "--json", *flags.split()]) == 0
    assert " ".join(call["session_id"] for call in json.loads(capsys.readouterr().out)) == expected


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--carrier twillio", "--carrier: 'twillio' is no carrier: "),
        ("--since yesterday", "--since: 'yesterday' is no time: write it like 2026-01-31T12:00:00Z"),
        ("--status over", "--status: invalid choice: 'over'"),
    ],
)
def test_a_filter_that_is_none_is_refused(flags, complaint, capsys):
    with pytest.raises(SystemExit):
        main(["calls", *flags.split()])
    assert capsys.readouterr().err.startswith(f"gateway calls: {complaint}")


def test_the_flags_are_the_queries_of_the_api():
    assert set(NAMES) == {field.alias or name for name, field in CallFilters.model_fields.items()} - {"limit", "cursor"}


async def test_a_gateway_is_asked_by_the_same_filters():
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json={"calls": [], "next_cursor": None})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://gateway") as http:
        assert await newest(ApiSource(http), 50, {"from": "+1555", "status": "ended"}) == []
    assert asked == [{"from": "+1555", "status": "ended", "limit": "50"}]


def arguments(flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(flags.split())


async def test_a_call_that_comes_to_the_wanted_status_is_followed(url, capsys, monkeypatch):
    looks = []

    async def changed(self, source):
        looks.append(True)
        return await whole_look(self, source)

    whole_look = Watch.changed
    monkeypatch.setattr(Watch, "changed", changed)
    monkeypatch.setattr("gateway.cli.calls.LOOK_EVERY", 0.01)
    await write(url, facts_of(INBOUND), facts_of(OTHER, session="s2"))
    following = asyncio.create_task(_list(arguments("--json --follow --status ended --direction inbound")))
    shown = []

    def ended() -> list[str]:
        shown.extend(json.loads(line)["session_id"] for line in capsys.readouterr().out.splitlines())
        return shown

    await until(lambda: looks)
    assert ended() == []
    await write(url, facts_of(INBOUND, STREAM, HANGUP, COMPLETED), facts_of(OTHER, COMPLETED, session="s2"))
    await until(ended)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert shown == ["s1"]


async def test_each_change_is_seen_once(url):
    await write(url, facts_of(INBOUND), facts_of(*CALL, session="s0"))
    engine = open_engine(url)
    source = DatabaseSource(DatabaseStore(engine))
    watch = Watch((await source.page(50))[0], {})

    async def changed() -> list[tuple[str, str]]:
        return [(call["session_id"], call["status"]) for call in await watch.changed(source)]

    assert await changed() == []
    await write(url, facts_of(INBOUND, STREAM), facts_of(OTHER, session="s2"))
    assert await changed() == [("s1", "answered"), ("s2", "ringing")]
    assert await changed() == []
    await write(url, facts_of(INBOUND, STREAM, HANGUP, COMPLETED))
    assert await changed() == [("s1", "ended")]
    assert await changed() == []
    await engine.dispose()


def test_says_what_is_missing(url, monkeypatch, capsys):
    assert main(["calls"]) == 2
    assert capsys.readouterr().err.startswith("gateway calls: records: there is no ")
    monkeypatch.setenv("GATEWAY_RECORDS", '""')
    assert main(["calls"]) == 2
    assert capsys.readouterr().err == 'gateway calls: records: is "": no calls are kept\n'
    assert main(["calls", "--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("gateway calls: --key: is missing")
    assert main(["calls", "--url", "http://127.0.0.1:1", "--key", "k"]) == 2
    assert capsys.readouterr().err == "gateway calls: --url: no gateway answers there: ConnectError\n"


def test_a_long_call_has_hours():
    record = Record(session_id="s", status="ended", end_reason="bot_hangup", answered_at=0.0, ended_at=7325.0)
    assert cells(record.to_dict())[-2:] == ["bot_hangup", "2:02:05"]
