from __future__ import annotations

import importlib.util
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import logs as gateways
from gateway.worker import logs


@pytest.fixture(autouse=True)
def as_json(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(logs.LOG_VARIABLE, "json")
    monkeypatch.setattr(logs, "context", {})
    yield


def printed(*texts: str) -> list[dict[str, Any]]:
    stream = io.StringIO()
    lines = logs.PrintedLines(stream)
    for text in texts:
        lines.write(text)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(folder: Path, text: str) -> BaseException:
    """What a module of the bot's raises when it is imported."""
    (folder / "raises.py").write_text(text)
    spec = importlib.util.spec_from_file_location("raises", folder / "raises.py")
    assert spec is not None and spec.loader is not None
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except BaseException as e:
        return e
    raise AssertionError("it raises nothing")


def test_a_line_has_the_form_of_the_gateways_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = raised(tmp_path, "1 / 0")
    root, levels = logging.getLogger(), {}
    handlers, levels[root] = root.handlers[:], root.level
    try:
        gateways.configure(json=True)
        logging.getLogger("gateway.test").error("it broke", exc_info=error)
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[root])
    theirs = json.loads(capsys.readouterr().err)
    ours = json.loads(logs.line("it broke", "error", 0.0, error))
    assert ours.keys() == theirs.keys() and ours["exception"] == theirs["exception"]
    assert ours["timestamp"] == "1970-01-01T00:00:00Z" and theirs["timestamp"].endswith("Z")


def test_each_printed_line_is_one_at_once_with_what_the_process_is_about() -> None:
    logs.context.update(service="a.b", session="s1")
    assert [line["event"] for line in printed("one\ntw", "o\n", "", "three")] == ["one", "two"]
    (line,) = printed("hello\n")
    assert (line["session"], line["service"], line["level"]) == ("s1", "a.b", "info")


def test_a_flush_writes_what_has_been_begun() -> None:
    stream = io.StringIO()
    lines = logs.PrintedLines(stream)
    print("begun", end="", file=lines, flush=True)
    lines.flush()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["begun"]


def test_a_line_without_end_is_cut() -> None:
    lines = printed("x" * 100_000)
    assert sum(len(line["event"]) for line in lines) == 100_000
    assert max(len(line["event"]) for line in lines) == logs.MAX_LINE


@pytest.mark.parametrize("text", ["\udc80 half a pair\n", '"quotes" \\ \x1b[31m\n', "ü 你好\n"])
def test_any_text_is_one_line_of_json(text: str) -> None:
    assert len(printed(text)) == 1


def test_a_reader_that_is_gone_is_no_error_of_the_bots() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    print("to no one", file=logs.PrintedLines(Gone()))


def test_what_libraries_ask_of_a_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with open(1, "w", closefd=False) as stdout:
        lines = logs.PrintedLines(stdout)
        assert lines.fileno() == 1 and lines.writable() and not lines.isatty() and lines.encoding.lower() == "utf-8"
        lines.buffer.write(b"raw\n")
        lines.buffer.flush()
    assert capfd.readouterr().out == "raw\n"


def test_for_a_person_a_line_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(logs.LOG_VARIABLE, "console")
    first, *trace = logs.line("it broke", "error", 0.0, raised(tmp_path, "1 / 0"), session="s1").splitlines()
    assert first == "1970-01-01T00:00:00Z [error    ] it broke                       session=s1"
    assert trace[0].startswith("Traceback") and trace[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n1 / 0", "ZeroDivisionError: division by zero (raises.py, line 2)"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b (raises.py, line 1)"),
        ("import json\njson.loads('{')", "JSONDecodeError: Expecting property name enclosed in double quotes"),
        ("from gateway.worker import api\n\napi._samples(1.5)", "(raises.py, line 3)"),
        ("raise SystemExit", "SystemExit (raises.py, line 1)"),
    ],
)
def test_an_error_is_named_with_the_bots_own_line(tmp_path: Path, text: str, said: str) -> None:
    line = logs.describe(raised(tmp_path, text))
    assert said in line and "(raises.py, line " in line and "\n" not in line


def test_a_traceback_begins_with_the_bots_own_code(tmp_path: Path) -> None:
    from gateway.errors import BotError
    from gateway.worker.bot_loader import load

    (tmp_path / "breaks.py").write_text("def f():\n    1 / 0\nf()\n")
    with pytest.raises(BotError) as e:
        load(str(tmp_path / "breaks.py"))
    assert e.value.__cause__ is not None
    trace = logs.without_our_frames(e.value.__cause__).__traceback__
    names = []
    while trace is not None:
        names.append((Path(trace.tb_frame.f_code.co_filename).name, trace.tb_lineno))
        trace = trace.tb_next
    assert names == [("breaks.py", 3), ("breaks.py", 2)]
