from __future__ import annotations

import os
from typing import Any

import pytest

from gateway.errors import UserError
from gateway.protocol import workers
from gateway.worker.options import OPTIONS_FD_VARIABLE, HostOptions, connect_url, worker_url


def test_through_json_and_back() -> None:
    options = HostOptions("bot.py", "a.b", ("ws://g1:1", "wss://g2/base"), key="k", warm=2, max=9, listen="10.0.0.7")
    assert HostOptions.from_json(options.to_json()) == options
    assert not options.local and HostOptions("bot.py", "a.b").local


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"target": ""}, "target is missing"),
        ({"service_host": ""}, "service_host is missing"),
        ({"gateways": ()}, "no gateway"),
        ({"gateways": ("ftp://x",)}, "ftp://x: not the URL of a gateway"),
        ({"gateways": ("ws://",)}, "not the URL of a gateway"),
        ({"gateways": ("http://[::1",)}, r"http://\[::1: not the URL of a gateway: Invalid IPv6 URL"),
        ({"gateways": ("ws://host:no",)}, "ws://host:no: not the URL of a gateway: Port could not be cast"),
        ({"max": 0}, "max is 0"),
        ({"max": 4_001}, "max is 4001, not between 1 and 4000"),
        ({"warm": 21}, "warm is 21, not between 0 and max"),
        ({"warm": -1}, "warm is -1"),
        ({"listen": "0.0.0.0"}, "needs advertise"),
        ({"listen": "ws://10.0.0.7"}, "listen is 'ws://10.0.0.7', not a host's name or address alone"),
        ({"listen": "0.0.0.0", "advertise": "10.0.0.7:80"}, "advertise is '10.0.0.7:80', not a host's name"),
        ({"listen": "0.0.0.0", "advertise": "user@10.0.0.7"}, "not a host's name or address alone"),
        ({"listen": "0.0.0.0", "advertise": "10.0.0.7/x?"}, "not a host's name or address alone"),
        ({"listen": "0.0.0.0", "advertise": "h\r\nX-Forged: 1"}, "not a host's name or address alone"),
        ({"host_id": "static:a.b"}, "host_id 'static:a.b' is not of letters"),
        ({"service_host": "x" * 101}, "service_host is not a name of at most 100"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word) as e:
        HostOptions(**{"target": "bot.py", "service_host": "a.b", **changes})
    assert "\n" not in str(e.value)


def test_what_a_full_host_says_is_one_message() -> None:
    """With session ids, and socket paths, as long as they get."""
    n, session, path = workers.MAX_CAP, "0198f3a2-b4c5-7d6e-8f90-{:012}", "unix:/" + "x" * 95 + "/w{}.sock"
    used = {"cpu": 16_000, "memory": 64 * 2**30}
    known = tuple(workers.Worker(f"w{i}", path.format(i), "busy", session.format(i), **used) for i in range(n))
    fence = 1_700_000_000_000_000
    running = tuple(workers.Running(session.format(i), fence, f"w{i}") for i in range(n))
    register = workers.Register("local-a.b-0123ab", 1_700_000_000_000, "a.b", "pcm", n, known, running, "k" * 43)
    said = workers.encode(register)
    assert len(said) <= workers.MAX_MESSAGE and workers.decode_to_gateway(said) == register


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"target":"a"}', '{"target":"a","service_host":"b","colour":1}'])
def test_what_are_no_options(text: str) -> None:
    with pytest.raises(UserError, match="the options are"):
        HostOptions.from_json(text)


def test_from_the_pipe_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    options = HostOptions("bot.py", "a.b", key="secret")
    read, write = os.pipe()
    os.write(write, options.to_json())
    os.close(write)
    monkeypatch.setenv(OPTIONS_FD_VARIABLE, str(read))
    assert HostOptions.from_environment() == options
    assert OPTIONS_FD_VARIABLE not in os.environ
    for nothing in ("", "nine", str(read)):
        monkeypatch.setenv(OPTIONS_FD_VARIABLE, nothing)
        with pytest.raises(UserError, match="no options in"):
            HostOptions.from_environment()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/workers/connect"),
        ("https://voice.example.com/", "wss://voice.example.com/v1/workers/connect"),
        ("http://h/base", "ws://h/base/v1/workers/connect"),
        ("wss://h/v1/workers/connect", "wss://h/v1/workers/connect"),
        ("unix:/run/gw.sock", "unix:/run/gw.sock"),
        ("ws://[::1]:8080", "ws://[::1]:8080/v1/workers/connect"),
    ],
)
def test_the_door_of_a_gateway(given: str, url: str) -> None:
    assert connect_url(given) == url


@pytest.mark.parametrize(
    ("host", "url"),
    [("fd00::1", "ws://[fd00::1]:4000/ws"), ("10.0.0.7", "ws://10.0.0.7:4000/ws"), ("w1.lan", "ws://w1.lan:4000/ws")],
)
def test_where_a_worker_on_tcp_is_reached(host: str, url: str) -> None:
    assert worker_url(host, 4000) == url
    assert HostOptions("bot.py", "a.b", listen="0.0.0.0", advertise=host).advertise == host
