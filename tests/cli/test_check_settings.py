"""`gateway check`: settings that lose every call are told, a line each; those that `serve` would refuse, it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.__main__ import main
from gateway.audio.files import write_wav
from gateway.cli.check import NOTE, examine, reach
from gateway.settings import Settings
from tests.acceptance.program import free_port, run
from tests.pool.server import Server

PASSWORD = "p4ss-of-the-tests"
ECHO = "gateway.worker.echo:bot"
GOOD = f"""
public_url = "https://voice.example.com"
secret = "0123456789abcdef"
[dialout]
allow = ["+1555", "GB"]
[carriers.plivo]
auth_id = "MA1"
auth_token = "t"
[[services]]
host = "a.b"
bot = "{ECHO}"
"""


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """Checks this file; its exit status and what was said on stdout and stderr."""

    def run(text: str, *options: str) -> tuple[int, list[str], str]:
        file = tmp_path / "gateway.toml"
        file.write_text(text)
        status = main(["check", "--config", str(file), "--no-measure", *options])
        out, err = capsys.readouterr()
        assert PASSWORD not in out + err
        assert "Traceback" not in err
        return status, out.splitlines(), err

    for name in ("TWILIO_ACCOUNT_SID", "TELNYX_API_KEY", "PLIVO_AUTH_ID", "EXOTEL_ACCOUNT_SID"):
        monkeypatch.delenv(name, raising=False)
    return run


def test_settings_that_can_take_calls(check):
    status, out, _ = check(GOOD)
    assert (status, out[-1]) == (0, "these settings can take calls")
    assert all(line.startswith(NOTE) for line in out[:-1])


def found(check, text: str, setting: str) -> str:
    """The one line about this setting, which is a fault."""
    status, out, _ = check(text)
    assert status == 1
    [line] = [line for line in out if not line.startswith(NOTE)]
    assert line.startswith(f"{setting}: ")
    assert len(line) < 200
    return line


# A bot that nobody would talk to.


def test_a_bot_behind_relay_is_refused_by_check_and_serve(check, tmp_path, capsys):
    text = GOOD + 'protocol = "relay"\n'
    status, out, err = check(text)
    assert (status, out) == (2, [])
    assert err.startswith("gateway check: services.0: ")
    assert "relay" in err
    assert "workers" in err
    assert main(["serve", "--config", str(tmp_path / "gateway.toml"), "--port", "0"]) == 2
    assert capsys.readouterr().err == err.replace("gateway check", "gateway serve")


def test_a_bot_by_flag_for_a_service_behind_relay_is_refused(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD.replace(f'bot = "{ECHO}"', 'workers = ["ws://10.0.0.7/ws"]\nprotocol = "relay"'))
    assert main(["check", "--config", str(file), "--no-measure"]) == 0
    capsys.readouterr()
    assert main(["serve", "--config", str(file), "--port", "0", "--bot", ECHO]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gateway serve: --bot: ")
    assert "relay" in err


# Hold audio.


def test_hold_audio_that_is_not_there(check):
    line = found(check, GOOD + 'hold_audio = "/nonexistent.wav"\n', "services.a.b.hold_audio")
    assert line == "services.a.b.hold_audio: /nonexistent.wav: No such file or directory"


def test_hold_audio_that_is_no_audio(check, tmp_path):
    found(check, GOOD + f'hold_audio = "{__file__}"\n', "services.a.b.hold_audio")


def test_hold_audio_that_can_be_played(check, tmp_path):
    write_wav(tmp_path / "hold.wav", np.zeros(800, np.int16), 8000)
    assert check(GOOD + f'hold_audio = "{tmp_path / "hold.wav"}"\n')[0] == 0


# Forwards.


@pytest.mark.parametrize("setting", ["when_full", "when_down"])
@pytest.mark.parametrize(("to", "allowed"), [("+15550100", True), ("+442079460000", True), ("+4930123456", False)])
def test_a_forward_to_where_nobody_may_dial(check, setting, to, allowed):
    text = GOOD + f'{setting} = "forward:{to}"\n'
    if allowed:
        assert check(text)[0] == 0
    else:
        line = found(check, text, f"services.a.b.{setting}")
        assert "[dialout] allow" in line
        assert "busy" in line


@pytest.mark.parametrize("setting", ["when_full", "when_down"])
def test_no_forward_is_allowed_while_nothing_is(check, setting):
    text = GOOD.replace('["+1555", "GB"]', "[]") + f'{setting} = "forward:+15550100"\n'
    found(check, text, f"services.a.b.{setting}")


def test_a_message_is_not_yet_played(check):
    status, out, _ = check(GOOD + 'when_down = "message"\n')
    assert status == 0
    [line] = [line for line in out if "when_down" in line]
    assert line.startswith(NOTE + "services.a.b.when_down: ")
    assert "busy" in line


# The registry.


@pytest.mark.parametrize("port", ["notaport", "99999", "-1"])
def test_a_redis_port_that_is_none(check, tmp_path, capsys, port):
    url = f"redis://user:{PASSWORD}@127.0.0.1:{port}/0"
    status, out, err = check(f'registry = "{url}"\n' + GOOD)
    assert (status, out) == (2, [])
    assert err.startswith("gateway check: registry: ")
    assert main(["serve", "--config", str(tmp_path / "gateway.toml"), "--port", "0"]) == 2
    assert capsys.readouterr().err == err.replace("gateway check", "gateway serve")


def test_a_redis_option_that_is_none(check, tmp_path):
    url = f"redis://:{PASSWORD}@127.0.0.1/0?socket_timeout={PASSWORD}"
    status, out, err = check(f'registry = "{url}"\n' + GOOD)
    assert (status, out) == (2, [])
    assert err.startswith("gateway check: registry: ")
    served = run("serve", "--config", str(tmp_path / "gateway.toml"), "--port", "0")
    assert (served.returncode, served.stderr) == (2, err.replace("gateway check", "gateway serve"))


@pytest.fixture
def redis() -> Iterator[Server]:
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.remove()


def test_a_redis_option_that_there_is_not(check, redis):
    found(check, f'registry = "{redis.url}?{PASSWORD}=1"\n' + GOOD, "registry")


def test_a_redis_that_is_not_there(check):
    line = found(check, f'registry = "redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"\n' + GOOD, "registry")
    assert line == "registry: the Redis cannot be reached: Connection refused"


def test_a_redis_whose_name_nobody_knows(check):
    line = found(check, f'registry = "redis://:{PASSWORD}@redis.invalid/0"\n' + GOOD, "registry")
    assert line.startswith("registry: the Redis ")  # how soon a resolver says so is its own affair


def test_a_part_of_a_password_that_is_taken_for_the_host_is_not_shown(check):
    """An unescaped "?" ends the address: what stands before it is what redis-py would connect to, and name."""
    found(check, f'registry = "redis://{PASSWORD}?rest@127.0.0.1:6379/0"\n' + GOOD, "registry")


def test_a_redis_that_answers(check, redis):
    assert check(f'registry = "{redis.url}"\n' + GOOD)[0] == 0


def test_a_redis_that_hangs(check, redis):
    redis.hang()
    line = found(check, f'registry = "{redis.url}"\n' + GOOD, "registry")
    assert "does not answer" in line


def test_a_redis_that_wants_a_password(check, redis):
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(redis.socket))
        admin.sendall(b"CONFIG SET requirepass another\r\n")
        assert admin.recv(5) == b"+OK\r\n"
    for url in (redis.url, f"unix://:{PASSWORD}@{redis.socket}"):
        line = found(check, f'registry = "{url}"\n' + GOOD, "registry")
        assert "password" in line


def test_what_answers_and_is_no_redis(check, tmp_path):
    line = found(check, f'registry = "redis://:{PASSWORD}@127.0.0.1:{http_like()}/0"\n' + GOOD, "registry")
    assert "Redis" in line or "reached" in line


def http_like() -> int:
    """The port of somebody who answers anything with HTTP, once, and ends with the process."""
    import threading

    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def test_the_memory_registry_is_reached_without_a_word():
    assert list(reach(Settings())) == []
    assert [line for line in examine(Settings()) if "registry" in line] == []


def test_no_path_of_a_bot_is_needed_to_check_static_workers(check, tmp_path: Path):
    text = GOOD.replace(f'bot = "{ECHO}"', 'workers = ["ws://10.0.0.7/ws"]\nprotocol = "relay"')
    assert check(text)[0] == 0


# What it has said before.


@pytest.mark.parametrize(
    ("was", "is_now", "setting"),
    [
        ('public_url = "https://voice.example.com"', "", "public_url"),
        ('secret = "0123456789abcdef"', "", "secret"),
        ('secret = "0123456789abcdef"', 'secret = "short"', "secret"),
        ('[carriers.plivo]\nauth_id = "MA1"\nauth_token = "t"', "", "carriers"),
        ("[[services]]", '[[services]]\nhost = "c.d"\nworkers = ["ws://h/ws"]\n[[services]]', "services"),
        (f'bot = "{ECHO}"', "", "services.a.b"),
        (f'bot = "{ECHO}"', f'bot = "{ECHO}"\nmin_warm = 0', "services.a.b.min_warm"),
        (f'bot = "{ECHO}"', 'bot = "absent.py"', "services.a.b.bot"),
    ],
)
def test_what_would_refuse_or_lose_calls(check, was, is_now, setting):
    assert was in GOOD
    found(check, GOOD.replace(was, is_now), setting)


def test_no_service_at_all(check):
    found(check, GOOD.partition("[[services]]")[0], "services")


def test_exotel_without_what_proves_who_asks(check):
    text = GOOD + '[carriers.exotel]\naccount_sid = "e"\napi_key = "k"\napi_token = "t"\n'
    found(check, text, "carriers.exotel.webhook_secret")


def test_what_this_version_does_not_act_upon(check):
    text = f'records = "sqlite+aiosqlite:///{PASSWORD}"\n' + GOOD + 'record = "/tmp/calls"\n[api]\nkeys = ["k"]\n'
    status, out, _ = check(text)
    assert status == 0
    for setting in ("records", "api.keys", "services.a.b.record"):
        assert [line for line in out if line.startswith(f"{NOTE}{setting}: ")]
