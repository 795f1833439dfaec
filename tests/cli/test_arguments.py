"""Flags that are out of range: refused before anything is done, by one line that names the flag, with status 2."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.__main__ import main
from tests.kit.waiting import PATIENCE

CALL = ("call", "--carrier", "twilio", "--url", "http://127.0.0.1:9")
LOAD = ("load", "--carrier", "twilio", "--url", "http://127.0.0.1:9", "--calls", "1", "--rate", "1", "--seconds", "1")
REPLAY = ("replay", "absent.jsonl", "--url", "http://127.0.0.1:9")
SERVE = ("serve", "--dev")
WORKER = ("worker", "bot.py", "--service-host", "a.b")
CHECK = ("check",)


@pytest.mark.parametrize(
    ("command", "flag", "value", "said"),
    [
        (CALL, "--seconds", "-3", "'-3' is no number above 0"),
        (CALL, "--seconds", "0", "'0' is no number above 0"),
        (CALL, "--seconds", "nan", "'nan' is no number above 0"),
        (CALL, "--seconds", "1e9", "below 1000000"),
        (CALL, "--seconds", "long", "'long' is no number above 0"),
        (LOAD, "--calls", "1.5", "'1.5' is no whole number above 0"),
        (LOAD, "--seconds", "inf", "'inf' is no number above 0"),
        (SERVE, "--port", "70000", "'70000' is no whole number from 0 to 65535"),
        (SERVE, "--port", "-1", "'-1' is no whole number from 0 to 65535"),
        (SERVE, "--port", "http", "'http' is no whole number from 0 to 65535"),
        (SERVE, "--processes", "0", "'0' is no whole number above 0"),
        (WORKER, "--warm", "-1", "'-1' is no whole number above -1"),
        (WORKER, "--max", "0", "'0' is no whole number above 0"),
        (CHECK, "--cps", "0", "'0' is no number above 0"),
        (CALL, "--carrier", "vonage", "'vonage' is not one of twilio, telnyx, plivo, exotel"),
    ],
)
def test_numbers_out_of_range(
    command: tuple[str, ...], flag: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused((*command, flag, value), f"gateway {command[0]}: {flag}: ", said, capsys)


@pytest.mark.parametrize("flag", ["--url", "--public-url"])
@pytest.mark.parametrize("command", [CALL, LOAD, REPLAY])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8080", "does not begin with http:// or https://: http://127.0.0.1:8080, say"),
        ("localhost", "http://localhost, say"),
        ("wss://a.example", "begins with wss://"),
        ("http://", "write it like http://127.0.0.1:8080"),
        ("http://[::1", "is no URL"),
        ("http://a.example:port", "is no URL"),
        ("http://a.example:99999", "is no URL"),
        ("http://a.example/?x=1", "is no gateway's URL"),
        ("http://me:secret@a.example", "is no gateway's URL"),
        ("http://a.example/webhooks/twilio/voice", "is a webhook: name the gateway alone, http://a.example"),
        ("", "does not begin with http://"),
    ],
)
def test_urls_of_no_gateway(
    command: tuple[str, ...], flag: str, url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused((*command, flag, url), f"gateway {command[0]}: {flag}: ", said, capsys)


def test_a_flag_that_is_missing_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    refused(("call",), "gateway call: ", "--carrier, --url", capsys)


def test_more_workers_warm_than_there_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORKER, "--warm", "30", "--max", "20"]) == 2
    assert capsys.readouterr().err.startswith("gateway worker: --warm: 30 is more than --max, 20")


def test_the_version_is_the_packages_and_costs_no_server() -> None:
    watch = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n')); "
        "from gateway.__main__ import main; main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, timeout=PATIENCE, check=True)
    said, *modules = done.stdout.splitlines()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert said == f"gateway {project['version']}"
    assert not {"uvicorn", "starlette", "httpx", "numpy", "sqlalchemy", "gateway.serve.server"} & {*modules}


def refused(arguments: tuple[str, ...], begins: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(begins)
    assert said in line
    assert line.endswith(f"see gateway {arguments[0]} --help")


# Files that are written at the end.


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main([*CALL, "--save", str(tmp_path / "heard.wav")]) == 2
    assert capsys.readouterr().err == f"gateway call: --save: {tmp_path / 'heard.wav'}: Permission denied\n"


@pytest.mark.parametrize(
    ("command", "flag", "name", "reason"),
    [
        (CALL, "--save", "absent/heard.wav", "No such file or directory"),
        (CALL, "--save", "", "Is a directory"),
        (LOAD, "--json", "absent/load.json", "No such file or directory"),
        (LOAD, "--json", "", "Is a directory"),
        (("demo",), "--out", "file", "File exists"),
        (("demo",), "--out", "file/below", "Not a directory"),
    ],
)
def test_what_cannot_be_written_is_found_before_the_call(tmp_path, capsys, command, flag, name, reason):
    (tmp_path / "file").write_text("")
    path = tmp_path / name if name else tmp_path
    assert main([*command, flag, str(path)]) == 2
    assert capsys.readouterr().err == f"gateway {command[0]}: {flag}: {path}: {reason}\n"


def test_a_file_of_before_is_not_lost_to_a_call_that_never_was(tmp_path):
    file = tmp_path / "heard.wav"
    file.write_text("of the last call")
    assert main([*CALL, "--save", str(file)]) == 2
    assert file.read_text() == "of the last call"
    assert main([*CALL, "--save", str(tmp_path / "new.wav")]) == 2
    assert not (tmp_path / "new.wav").exists()
