"""`gateway serve`: which bot answers, by settings and flags, and what is said of it at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.cli.serve import default_notes, with_bot
from gateway.settings import DEV_SERVICE, ServiceSettings, Settings
from tests.acceptance.program import Gateway, run

ECHO = "gateway.worker.echo:bot"


def settings(*hosts: str, default: str = "") -> Settings:
    return Settings(services=tuple(ServiceSettings(host=host, bot=ECHO, default=host == default) for host in hosts))


def default_of(made: Settings) -> str:
    return next((service.host for service in made.services if service.default), "")


def served(read: Settings, *, bot: str | None = None, dev: bool = True) -> tuple[Settings, list[str]]:
    """What is served of these settings, and what is said of that."""
    made = with_bot(read, bot=bot, dev=dev)
    return made, default_notes(read, made)


@pytest.mark.parametrize("dev", [True, False])
@pytest.mark.parametrize("bot", [None, "mine.py"])
@pytest.mark.parametrize("host", ["a.b", DEV_SERVICE])
def test_one_service_is_the_default(dev: bool, bot: str | None, host: str) -> None:
    made, notes = served(settings(host), bot=bot, dev=dev)
    assert (default_of(made), notes) == (host, [])
    assert made.services[0].bot == (bot or ECHO)
    assert [service.host for service in made.services if service.host == host] == [host]


def test_the_echo_bot_answers_where_nothing_is_configured_and_says_so() -> None:
    made, [note] = served(settings())
    assert default_of(made) == DEV_SERVICE
    assert "the echo bot answers every call" in note
    assert "--bot" in note
    assert served(settings(), bot="mine.py")[1] == []


@pytest.mark.parametrize(("dev", "get"), [(True, "are answered by the echo bot"), (False, "are refused")])
def test_several_services_of_which_none_is_the_default(dev: bool, get: str) -> None:
    made, [note] = served(settings("a.b", "c.d"), dev=dev)
    assert default_of(made) == (DEV_SERVICE if dev else "")
    assert get in note
    assert "set default = true on one" in note


@pytest.mark.parametrize("dev", [True, False])
@pytest.mark.parametrize("default", ["c.d", DEV_SERVICE])
def test_several_services_of_which_one_is_the_default(dev: bool, default: str) -> None:
    made, notes = served(settings("a.b", default, default=default), dev=dev)
    assert (default_of(made), notes) == (default, [])


def test_the_one_service_of_a_file_answers_in_dev(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From outside: the bot of the file hangs up, which the echo would not."""
    (tmp_path / "bot.py").write_text("async def bot(call):\n    await call.hangup('enough')\n")
    text = f'records = ""\n[server]\nops_bind = ""\n[[services]]\nhost = "a.b"\nbot = "{tmp_path / "bot.py"}"\n'
    with Gateway.of(tmp_path, text, "--dev") as gateway:
        assert main(["call", "--carrier", "plivo", "--url", gateway.url, "--seconds", "5"]) == 0
        assert "ended          by the gateway" in capsys.readouterr().out
        assert "echo bot" not in gateway.text()


def test_the_echo_bot_is_named_in_the_log(tmp_path: Path) -> None:
    with Gateway("--dev", "--port", "0", env={"GATEWAY_SERVER__OPS_BIND": '""', "GATEWAY_RECORDS": '""'}) as gateway:
        assert "as no service is configured" in gateway.log("the echo bot answers every call")["event"]


def test_a_bot_that_cannot_be_used_is_one_line_under_its_flag(tmp_path: Path) -> None:
    (tmp_path / "bot.py").write_text("async def bot(call):\n    async for event in call: yield event\n")
    bot = str(tmp_path / "bot.py")
    result = run("serve", "--dev", "--port", "0", "--bot", bot, env={"GATEWAY_SERVER__OPS_BIND": '""'})
    assert result.returncode == 2
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert line == f"gateway serve: --bot: {bot}: `bot` has a `yield`; take it out, and speak by `await call.play(pcm)`"
