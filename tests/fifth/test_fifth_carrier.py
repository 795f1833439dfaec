"""A carrier from another package: found by its entry point, served and called.

The gateway is not touched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.recording import Entry, Recording
from tests.acceptance.program import Gateway, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIG = """
records = ""
[server]
ops_bind = ""
[carriers.acme]
account_id = "acme-account"
secret = "acme-secret"
[[services]]
host = "echo"
bot = "gateway.worker.echo:bot"
min_warm = 1
"""


def install(folder: Path, entry_points: str) -> dict[str, str]:
    """Make a distribution beside the packages of this folder, as pip would leave one.

    Returns the environment that finds both.
    """
    info = folder / "acme_carrier-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-carrier\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gateway.carriers]\n{entry_points}\n")
    path = os.pathsep.join(filter(None, [str(folder), str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("installed"), "acme = acme_carrier:PLUGIN")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, installed: dict[str, str]) -> Iterator[Gateway]:
    with Gateway.of(tmp_path_factory.mktemp("gateway"), CONFIG, env=installed) as gateway:
        yield gateway


def test_a_signed_call_as_the_fifth_carrier(serving: Gateway, installed: dict[str, str]) -> None:
    since = len(serving.lines)
    called = run("call", "--carrier", "acme", "--url", serving.url, "--seconds", "1", env=installed)
    assert called.returncode == 0, called
    assert re.search(r"carrier +acme\noutcome +completed\n", called.stdout), called.stdout
    assert serving.log("session ended", since)["carrier"] == "acme"


def test_a_recorded_call_of_the_fifth_carrier_is_replayed(
    tmp_path: Path, serving: Gateway, installed: dict[str, str]
) -> None:
    call = {"call_id": "acme-0", "from": "+15550100001", "to": "+15550100000", "public_url": "https://h"}
    ring = (("call", "acme-0"), ("from", "+15550100001"), ("to", "+15550100000"), ("state", "ringing"))
    start = {"acmeCall": "acme-0", "acmeStream": "stream-0", "account": "", "parameters": {}}
    entries = [
        Entry(0, "request", "carrier", method="POST", url="https://h/webhooks/acme/voice", form=ring),
        Entry(20, "open", "carrier", url="wss://h/ws"),
        Entry(30, "message", "carrier", text=json.dumps({"event": "start", "start": start})),
        Entry(90, "close", "carrier", code=1000),
    ]
    recording = tmp_path / "acme.jsonl"
    Recording("acme", "PCMA", 8000, call | {"stream_id": "stream-0"}, entries=entries).write(recording)
    played = run("replay", str(recording), "--url", serving.url, env=installed)
    assert re.search(r"carrier +acme\noutcome +completed\n", played.stdout), played
    unknown = run("replay", str(recording), "--url", "http://127.0.0.1:9")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
    assert "its carrier 'acme' is not one of twilio, telnyx, plivo, exotel" in unknown.stderr


def test_its_forged_call_is_refused(serving: Gateway, installed: dict[str, str]) -> None:
    since = len(serving.lines)
    forger = {**installed, "ACME_SECRET": "another"}
    called = run("call", "--carrier", "acme", "--url", serving.url, "--seconds", "1", env=forger)
    assert called.returncode == 1, called
    refused = serving.log("refused", since)
    assert (refused["carrier"], refused["reason"]) == ("acme", "bad_signature")


def test_its_settings_are_checked_and_filled_from_its_environment(installed: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[carriers.acme]\naccount = "a"\n')
    assert "carriers.acme.account" in run("check", "--config", str(file), env=installed).stderr
    env = {**installed, "ACME_ACCOUNT": "a", "ACME_SECRET": "s", "GATEWAY_CONFIG": ""}
    assert "carriers.acme: no credentials" in run("check", env=installed).stdout
    assert "carriers.acme" not in run("check", env=env).stdout


def test_it_is_unknown_where_it_is_not_installed() -> None:
    called = run("call", "--carrier", "acme", "--url", "http://127.0.0.1:9")
    assert called.returncode == 2
    assert "'acme' is not one of twilio, telnyx, plivo, exotel" in called.stderr


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_package:PLUGIN", "carriers.acme: its plug-in no_such_package:PLUGIN cannot be imported"),
        ("acme_carrier:AcmeCarrier", "carriers.acme: its plug-in acme_carrier:AcmeCarrier is no CarrierPlugin"),
    ],
)
def test_a_broken_plug_in_is_one_line(tmp_path: Path, target: str, problem: str) -> None:
    env = install(tmp_path, f"acme = {target}")
    served = run("serve", "--dev", "--port", "0", env=env)
    assert served.returncode == 2
    assert problem in served.stderr
    assert "Traceback" not in served.stderr


def test_no_package_takes_over_a_built_in_name(tmp_path: Path) -> None:
    env = install(tmp_path, "twilio = no_such_package:PLUGIN")
    assert run("check", env=env).returncode == 1  # not 2: the built-in Twilio is there
