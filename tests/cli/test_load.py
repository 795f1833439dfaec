"""`gateway load` as its user meets it, against a real `gateway serve --dev`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.cli import load as command
from gateway.simulator.load import LoadReport, Progress, Tolerance, Totals
from tests.acceptance.program import Gateway
from tests.kit.processes import environment

FIXTURES = Path(__file__).parents[2] / "fixtures"
SMALL = 2
NOBODY = "http://127.0.0.1:9"
RIGHT = ("load", "--carrier", "twilio", "--url", NOBODY, "--calls", "1", "--rate", "1", "--seconds", "1")

SETTINGS = f"""
records = ""
[server]
ops_bind = "127.0.0.1:0"
drain_seconds = 2
[[services]]
host = "echo"
default = true
bot = "gateway.worker.echo:bot"
min_warm = 8
max = 40
[[services]]
host = "small"
bot = "gateway.worker.echo:bot"
min_warm = {SMALL}
max = {SMALL}
when_full = "busy"
[[services]]
host = "hold"
bot = "gateway.worker.echo:bot"
min_warm = {SMALL}
max = {SMALL}
wrapup_seconds = 1
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Gateway.of(tmp_path_factory.mktemp("load"), SETTINGS, "--dev") as gateway:
        yield gateway.url


@pytest.fixture
def lax(monkeypatch: pytest.MonkeyPatch) -> None:
    """How late this machine is decides no test."""
    monkeypatch.setattr("gateway.simulator.load.driver.TOLERANCE", Tolerance(1e9, 1e9, 1e9, 1e9))


def load(url: str, *more: str, calls: int = 8, seconds: float = 2.0, carrier: str = "twilio,exotel") -> int:
    asked = ("--calls", str(calls), "--rate", "20", "--seconds", str(seconds))
    return main(["load", "--carrier", carrier, "--url", url, *asked, *more])


def test_whole_calls(url: str, lax: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "load.json"
    assert load(url, "--json", str(out), "--fixture", str(FIXTURES / "twilio.jsonl")) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["carrier", "asked", "answered", "held", "refused", "failed", "sent", "back", "lost"]
    assert [row.split()[:6] for row in table[1:4]] == [
        ["twilio", "4", "4", "0", "0", "0"],
        ["exotel", "4", "4", "0", "0", "0"],
        ["all", "8", "8", "0", "0", "0"],
    ]
    assert table[3].split()[-1] == "0"
    assert table[5].split() == ["carrier", "webhook", "ms", "first", "audio", "ms", "echo", "ms"]
    assert [(row.split()[0], row.count("/")) for row in table[6:9]] == [("twilio", 3), ("exotel", 3), ("all", 3)]
    assert max(map(len, table[:10])) <= 80
    assert table[-1] == "every call was answered and whole"
    said = json.loads(out.read_text())
    assert (said["ok"], said["totals"]["whole"], len(said["calls"])) == (True, 8, 8)
    assert said["totals"]["echo_ms"]["count"] > 8 * 10
    assert said["own"]["late_ms"]["frames"]["count"] > 0


def test_a_full_pool_refuses(url: str, lax: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(url, "--service-host", "small", calls=6, seconds=1.0) == 1
    out = capsys.readouterr().out
    everything = next(row.split() for row in out.splitlines() if row.startswith("all"))
    assert everything[:6] == ["all", "6", str(SMALL), "0", str(6 - SMALL), "0"]
    assert f"{6 - SMALL} × refused: busy" in out
    assert out.splitlines()[-1] == f"{6 - SMALL} of 6 calls fell short"


def test_a_full_pool_holds(url: str, lax: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Those who wait are let in when the first ones leave, and are counted as held."""
    load(url, "--service-host", "hold", calls=3, seconds=2.5, carrier="twilio")
    out = capsys.readouterr().out
    row = next(row.split() for row in out.splitlines() if row.startswith("twilio"))
    assert row[:4] == ["twilio", "3", row[2], "1"]
    assert int(row[2]) >= SMALL
    assert "on hold: " in out


def test_a_late_load_is_refused_its_delays(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gateway.simulator.load.calls import LoadSpeaker

    say = LoadSpeaker._say

    def late(self: LoadSpeaker, index: int) -> None:
        time.sleep(0.03)
        say(self, index)

    monkeypatch.setattr(LoadSpeaker, "_say", late)
    out = tmp_path / "late.json"
    assert load(url, "--json", str(out), calls=1, seconds=0.3, carrier="twilio") == 1
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("twilio")]) == 1, "the counts alone"
    assert not any("webhook ms" in line for line in said)
    assert said[-1].startswith("no delays are reported, as this load was late itself: frames were sent ")
    assert said[-1].endswith("Place fewer calls, use another machine, or share them among several processes")
    assert json.loads(out.read_text())["totals"]["echo_ms"] is None


def test_ctrl_c_ends_the_calls_and_reports(url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *RIGHT, "--url", url, "--calls", "100", "--rate", "10", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    first = process.stderr.readline()  # when it has been running for some seconds
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=40)
    assert "/100 placed" in first
    assert process.returncode == 1
    assert "Traceback" not in errors
    last = out.splitlines()[-1]
    assert "calls had been placed" in last or "late itself" in last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--carrier", "vonage"], "'vonage' is not one of twilio, telnyx, plivo, exotel"),
        (["--calls", "0"], "'0' is no whole number above 0"),
        (["--calls", "many"], "'many' is no whole number above 0"),
        (["--rate", "-1"], "'-1' is no number above 0"),
        (["--seconds", "nan"], "'nan' is no number above 0"),
        (["--rate", "fast"], "'fast' is no number above 0"),
    ],
)
def test_called_wrongly(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*RIGHT, *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--url: nothing answers at http://127.0.0.1:9 ("),
        (["--fixture", "nowhere.wav"], "--fixture: nowhere.wav: No such file"),
        (["--fixture", "nowhere.jsonl"], "--fixture: nowhere.jsonl: No such file"),
        (["--hold-audio", "nowhere.wav"], "--hold-audio: nowhere.wav: No such file"),
        (["--json", "nowhere/at/all.json"], "--json: nowhere/at/all.json: No such file"),
    ],
)
def test_what_cannot_be_tried_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RIGHT, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gateway load: {said}")
    assert error.count("\n") == 1


def test_a_fixture_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from gateway.audio.files import write_wav

    silent = tmp_path / "silent.wav"
    write_wav(silent, np.zeros(8000, np.int16), 8000)
    assert main([*RIGHT, "--fixture", str(silent)]) == 2
    assert capsys.readouterr().err == f"gateway load: --fixture: {silent}: nothing is said in it\n"


def test_progress_is_one_line_that_fits() -> None:
    begun = Progress(
        seconds=1.2, asked=20, started=9, talking=9, on_hold=0, answered=0, refused=0, failed=0, late_ms=0.2
    )
    assert command.progress_line(begun) == "    1 s  9/20 placed  9 talking"
    some = replace(begun, on_hold=5, refused=3, failed=2, late_ms=1.7)
    assert command.progress_line(some) == "    1 s  9/20 placed  9 talking  2 failed  3 refused  2 ms late  5 on hold"
    large = Progress(
        seconds=36000, asked=9000, started=9000, talking=5000, on_hold=1000, answered=9000,
        refused=4000, failed=1000, late_ms=12.5,
    )  # fmt: skip
    line = command.progress_line(large)
    assert line.startswith("36000 s  9000/9000 placed  5000 talking  1000 failed  4000 refused  12 ms late")
    assert len(line) < 80


def test_the_tables_of_a_large_load_fit_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    large = report(
        asked=20000, answered=20000, held=2000, refused=20000, failed=20000, echoed=1, lost=123456,
        frames_sent=123456789, frames_received=123456789,
    )  # fmt: skip
    for spread in (large.totals.webhook, large.totals.first_audio, large.totals.echo):
        spread.note(12345.6)
    large.carriers = {"twilio": large.totals, "exotel": large.totals}
    command.show(large)
    table = capsys.readouterr().out.splitlines()
    assert max(map(len, table[:9])) < 80, table
    assert table[3].startswith("all") and table[8].startswith("all")


def report(**more: Any) -> LoadReport:
    made = LoadReport(asked=2, carriers={"twilio": Totals()})
    for key, value in more.items():
        setattr(made.totals, key, value)
    return made


def test_notes_say_what_could_not_be_measured() -> None:
    no_echo = report(asked=2, answered=2, whole=2)
    assert command.notes(no_echo)[0].startswith("no echo was found: the bot is none")
    assert command.notes(no_echo)[-1] == "every call was answered and whole"
    interrupted = report(asked=1)
    interrupted.interrupted = True
    assert command.notes(interrupted)[-1] == "interrupted: 1 of 2 calls had been placed"
