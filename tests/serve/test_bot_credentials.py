"""Whose credentials a local bot finds in its environment: a relayed one the carriers', any other none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.carriers import CARRIERS
from gateway.serve.local_hosts import HostProcesses
from gateway.settings import ServiceSettings, Settings
from tests.kit.fake_gateway import KEY, FakeGateway

TABLES = {
    "twilio": {"accounts": [{"account_sid": f"AC{n}", "auth_token": [f"new{n}", f"old{n}"]} for n in (1, 2)]},
    "telnyx": {"api_key": "KEY1", "public_key": "cHVibGljIGtleSBvZiB0aGUgdGVzdHMsIDMyIGJ5dGU="},
    "plivo": {"auth_id": "MA1", "auth_token": "p1"},
    "exotel": {"account_sid": "ex1", "api_key": "k", "api_token": "t", "webhook_secret": "a secret of the tests"},
}
SEEN = """
import os

def seen(where):
    carriers = "TWILIO", "TELNYX", "PLIVO", "EXOTEL"
    print(f"{where}: {sorted((name, value) for name, value in os.environ.items() if name.startswith(carriers))}")

seen("imported")
"""
RELAYED = "async def bot(runner_args):\n    import pipecat\n    seen('called')\n"
PCM = "async def bot(call):\n    seen('called')\n"
ALL = {
    "TWILIO_ACCOUNT_SID": "AC1",
    "TWILIO_AUTH_TOKEN": "new1",
    "TELNYX_API_KEY": "KEY1",
    "PLIVO_AUTH_ID": "MA1",
    "PLIVO_AUTH_TOKEN": "p1",
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[FakeGateway]:
    fake = FakeGateway(tmp_path / "gw.sock")
    yield fake
    fake.die()


@pytest.mark.parametrize(
    ("bot", "protocol", "imported", "called"),
    [
        (RELAYED, "relay", ALL, ALL),
        (PCM, "pcm", {}, {}),
        ("import helper\nasync def bot(runner_args):\n    seen('called')\n", "relay", {}, ALL),
        ("import pipecat\n" + PCM, "pcm", ALL, {}),  # its source looks like a relayed one's
        ("import socket\nkept = socket.socketpair()\n" + RELAYED, "relay", ALL, ALL),
    ],
    ids=["relayed", "pcm", "Pipecat in a helper", "pcm with Pipecat", "not forked"],
)  # fmt: skip
async def test_a_relayed_bot_has_the_carriers_credentials(
    gateway: FakeGateway,
    tmp_path: Path,
    bot: str,
    protocol: str,
    imported: dict[str, str],
    called: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "pipecat").mkdir()
    (tmp_path / "pipecat" / "runner").mkdir()
    (tmp_path / "pipecat" / "runner" / "types.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass WebSocketRunnerArguments:\n    websocket: object\n"
    )
    (tmp_path / "helper.py").write_text("import pipecat")
    (tmp_path / "mybot.py").write_text(SEEN + bot)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "of the gateway's environment")
    carriers = {name: CARRIERS[name].config.model_validate(table) for name, table in TABLES.items()}
    section = ServiceSettings(host="a.b", bot=str(tmp_path / "mybot.py"), min_warm=1)
    settings = Settings(services=(section,), carriers=carriers)
    processes = HostProcesses(settings, ("127.0.0.1", await gateway.open_tcp()), KEY)
    processes.start()
    try:
        link = (await gateway.link(await gateway.ready_worker())).start()
        assert await link.end() == 1000
        assert gateway.registers[0].protocol == protocol
    finally:
        gateway.leave()
        await processes.stop()
    said = "".join(capfd.readouterr())
    assert f"imported: {sorted(imported.items())}" in said
    assert f"called: {sorted(called.items())}" in said
    assert "old1" not in said and "gateway's environment" not in said


def test_no_credential_shows_where_options_are_printed(tmp_path: Path) -> None:
    carriers = {"plivo": CARRIERS["plivo"].config.model_validate(TABLES["plivo"])}
    settings = Settings(services=(ServiceSettings(host="a.b", bot="bot.py", min_warm=1),), carriers=carriers)

    async def made() -> HostProcesses:
        return HostProcesses(settings, ("127.0.0.1", 1), KEY)

    assert "p1" not in repr(asyncio.run(made())._options["a.b"])
