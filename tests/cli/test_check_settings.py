"""`gateway check`: settings that lose every call are told, a line each; those that `serve` would refuse, it refuses."""

from __future__ import annotations

import socket
import sys
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


# The file itself.


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o644, GOOD, True),
        (0o604, GOOD, True),
        (0o640, GOOD, False),
        (0o600, GOOD, False),
        (0o644, 'public_url = "https://voice.example.com"\n[[services]]\nhost = "a.b"\n', False),
        (0o644, '[[services]]\nhost = "a.b"\nworkers = ["ws://10.0.0.7/ws"]\nlink_key = "k"\n', True),
    ],
)
def test_secrets_that_every_user_can_read(tmp_path, capsys, monkeypatch, mode, text, said):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    file.chmod(mode)
    monkeypatch.setenv("GATEWAY_SECRET", "0123456789abcdef")  # of the environment, which the file does not show
    main(["check", "--config", str(file), "--no-measure"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "chmod" in line]
    assert lines == [f"{NOTE}--config: every user of this machine can read the secrets in it: chmod o-r {file}"] * said


# Keys that no header can carry.


@pytest.mark.parametrize("key", ["p4ss\\nof", "p4ss of", "p4ss\\u00e9", "p4ss\\u0000", "p" * 257])
@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_link_key_that_no_header_can_carry(tmp_path, capsys, command, key):
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD + f'link_key = "{key}"\n')
    assert main([command, "--config", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "services.a.b.link_key" in line
    assert "p4ss" not in line


# A bot in an environment of its own.


def test_an_interpreter_that_is_not_there(check, tmp_path):
    status, out, _ = check(GOOD + f'python = "{tmp_path}/python"\n')
    assert status == 1
    assert [line for line in out if line.startswith("services.a.b.python: ")] == [
        f"services.a.b.python: {tmp_path}/python: there is no such program: name that of the bot's environment"
    ]


def test_modules_of_another_environment_are_not_looked_for_here(check):
    text = GOOD.replace(f'bot = "{ECHO}"', f'bot = "only_there.bot"\npython = "{sys.executable}"')
    assert [line for line in check(text)[1] if "services.a.b.bot" in line] == []


# Hold audio.


def test_hold_audio_that_is_not_there(check):
    line = found(check, GOOD + 'hold_audio = "/nonexistent.wav"\n', "services.a.b.hold_audio")
    assert line == "services.a.b.hold_audio: /nonexistent.wav: No such file or directory"


def test_hold_audio_that_is_no_audio(check, tmp_path):
    found(check, GOOD + f'hold_audio = "{__file__}"\n', "services.a.b.hold_audio")


def test_an_announcement_that_is_not_there(check):
    line = found(check, GOOD + 'announcement = "/nonexistent.wav"\n', "services.a.b.announcement")
    assert line == "services.a.b.announcement: /nonexistent.wav: No such file or directory"


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


def test_a_carrier_that_cannot_place_calls_where_calls_are_placed(check):
    key = '[carriers.telnyx]\npublic_key = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="\n'
    line = f"{NOTE}carriers.telnyx.api_key: missing, this carrier places no calls: "
    status, out, _ = check(GOOD + key)
    assert status == 0 and [each for each in out if each.startswith(line)]
    closed = GOOD.replace('allow = ["+1555", "GB"]', "allow = []")
    assert not [each for each in check(closed + key)[1] if each.startswith(line)]


def test_what_this_version_does_not_act_upon(check):
    status, out, _ = check(GOOD + 'record = "/tmp/calls"\n')
    assert status == 0
    assert [line for line in out if line.startswith(f"{NOTE}services.a.b.record: ")]


def test_a_key_of_the_api_that_could_be_guessed(check):
    line = "api.keys: crm is shorter than 16 characters"
    status, out, _ = check(GOOD + '[api]\nkeys = [{ key = "hunter2", name = "crm", scopes = ["start"] }]\n')
    assert status == 1 and [each for each in out if each.startswith(line)]
    assert not [each for each in out if "hunter2" in each]
    assert check(GOOD + '[api]\nkeys = ["0123456789abcdef"]\n')[0] == 0


# Where workers of other machines may be.

KEYS = '[workers]\nkeys = ["0123456789abcdef"]\n'


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        (KEYS, "note: workers.networks: not set, the workers of a host must be at the address that it connects from"),
        (KEYS + 'networks = ["127.0.0.0/8"]\n', "note: workers.networks: 127.0.0.0/8 has addresses of this machine"),
        (KEYS + 'networks = ["169.254.169.254"]\n', "note: workers.networks: 169.254.169.254/32 has addresses of this"),
        ('[workers]\nnetworks = ["10.20.0.0/16"]\n', "note: workers.networks: no effect"),
        (KEYS + 'networks = ["10.20.0.0/16", "fd00::/8"]\n', ""),
    ],
)
def test_networks_of_worker_hosts_are_looked_at(check, workers, line):
    status, out, _ = check(GOOD.replace("[dialout]", workers + "[dialout]"))
    said = [one for one in out if "workers.networks" in one]
    assert (status, len(said)) == (0, 1 if line else 0)
    assert not line or said[0].startswith(line)


def test_networks_that_are_every_address_are_a_fault(check):
    every = GOOD.replace("[dialout]", f'{KEYS}networks = ["0.0.0.0/0"]\n[dialout]')
    assert "is every address" in found(check, every, "workers.networks")


@pytest.mark.parametrize(
    ("dialout", "setting"),
    [('allow = ["+1"]', "dialout.callers"), ('callers = ["+15550100"]', "dialout.allow")],
)
def test_dialout_without_what_it_needs_is_noted(check, dialout, setting):
    keyed = GOOD.replace('allow = ["+1555", "GB"]', dialout) + '[api]\nkeys = ["0123456789abcdef"]\n'
    status, out, _ = check(keyed)
    assert status == 0 and any(line.startswith(f"{NOTE}{setting}: ") for line in out)
