"""What forked workers must not share: found in processes of their own, and from outside with a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.protocol import pcm, workers
from gateway.worker.fleet import Fleet
from gateway.worker.interpreter import environment
from gateway.worker.options import HostOptions
from tests.kit.fake_gateway import Link
from tests.kit.waiting import until

FOUND = """
baseline = Baseline()
{code}
import gc
gc.collect()
print("\\n".join(baseline.added()))
{then}
"""
FORKS = """
import os, sys
from gateway.worker.fork_safety import Baseline
sys.path.insert(0, "")
while line := sys.stdin.readline():
    folder, code = eval(line)
    child = os.fork()
    if not child:
        break
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
os.chdir(folder)
exec(code)
sys.stdout.flush()
os._exit(0)
"""
"""Has imported what is tested, and nothing else: a fork of it costs a tenth of a new process."""


@pytest.fixture(scope="module")
def added() -> Iterator[Callable[..., list[str]]]:
    """What is found after this code has run, in a process that has run nothing else. then: run behind that."""
    command, pipe = [sys.executable, "-c", FORKS], subprocess.PIPE
    with subprocess.Popen(command, env=environment(os.environ), stdin=pipe, stdout=pipe, text=True) as forks:
        assert forks.stdin is not None and forks.stdout is not None

        def run(code: str, folder: Path, then: str = "") -> list[str]:
            print((str(folder), FOUND.format(code=code, then=then)), file=forks.stdin, flush=True)
            said: list[str] = []
            for line in forks.stdout:
                if line.startswith("status "):
                    assert line == "status 0\n", said
                    return [each for each in said if each]
                said.append(line.rstrip("\n"))
            raise AssertionError(said)

        yield run


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import asyncio; loop = asyncio.new_event_loop()", "an epoll (an event loop)"),
        ("import select; poll = select.epoll()", "an epoll (an event loop)"),
        ("import os; fd = os.eventfd(0)", "an eventfd"),
        ("import os; ends = os.pipe()", "a pipe"),
        ("import os; os.dup2(os.pipe()[0], 0)", "a pipe"),
        ("import socket; s = socket.create_server(('127.0.0.1', 0))", "a socket that listens on 127.0.0.1:"),
        ("import socket; s = socket.socket()", "a socket"),
        ("import socket; pair = socket.socketpair()", "a connection to a process of its own"),
        ("import subprocess; p = subprocess.Popen(['cat'], stdin=subprocess.PIPE)", "a pipe"),
        ("import sqlite3; db = sqlite3.connect('bot.db'); db.execute('pragma user_version')", "/bot.db"),
        ("f = open('/etc/passwd')", "the open file /etc/passwd"),
        ("import mmap; m = mmap.mmap(-1, 4096)", "shared memory"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            'the thread "Thread-1 (',
        ),
        ("import starts_threads", "a thread that starts_threads starts"),
        ("import random; rng = random.Random()", "the random generator __main__.rng"),
        ("import numpy; rng = numpy.random.default_rng()", "the random generator __main__.rng"),
        ("import numpy; rngs = [numpy.random.RandomState(7)]", "the random generator RandomState"),
    ],
)
def test_what_an_import_leaves_is_found_and_named(
    code: str, name: str, tmp_path: Path, added: Callable[..., list[str]]
) -> None:
    (tmp_path / "starts_threads.py").write_text(
        "import _thread, time\n_thread.start_new_thread(time.sleep, (9,))"  # as C does: threading knows nothing of it
    )
    assert any(name in one for one in added(code, tmp_path))


def test_a_generator_that_is_a_default_is_seeded_anew(tmp_path: Path, added: Callable[..., list[str]]) -> None:
    """aiohttp's writer of WebSocket frames has one, and with it each bot that imports aiohttp."""
    code = "import random\ndef mask(*, rng=random.Random(7)): return rng.random()\n"
    draws = "from gateway.worker.fork_safety import reseed\nreseed()\nprint(mask() == random.Random(7).random())"
    assert added(code, tmp_path, draws) == ["False"]


def test_libraries_are_told_to_start_no_thread_and_log_no_number() -> None:
    assert environment({})["ORT_DISABLE_TELEMETRY"] == "1" and environment({})["LOGURU_LEVEL"] == "INFO"
    assert environment({"LOGURU_LEVEL": "DEBUG"})["LOGURU_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(
    "code",
    [
        "",
        "import numpy, random, json, pydantic, asyncio, uvloop, httpx; random.random(); numpy.random.random()",
        "import tempfile; tempfile.mkdtemp(); import secrets; rng = secrets.SystemRandom()",
        "import socket; socket.create_server(('127.0.0.1', 0)).close()",
        "import os; fd = os.open('/dev/null', os.O_RDWR); copy = os.dup(2)",
        "log = open('bot.log', 'a')",
        "import random\ndef f(*, rng=random.Random()): ...",  # aiohttp's writer of WebSocket frames
        "import threading; t = threading.Thread(target=print, args=('',)); t.start(); t.join()",
        "import asyncio; asyncio.run(asyncio.sleep(0))",
    ],
)
def test_what_forked_workers_may_share_costs_nothing(
    code: str, tmp_path: Path, added: Callable[..., list[str]]
) -> None:
    assert added(code, tmp_path) == []


def test_more_than_can_be_read_is_counted(tmp_path: Path, added: Callable[..., list[str]]) -> None:
    assert added("import os; ends = [os.pipe() for _ in range(20)]", tmp_path) == ["a pipe"] * 8 + ["32 more"]


# From outside: a server that gives each connection a number, and bots that ask for theirs.

ASKS = """
import json, random, socket
import numpy

def connect():
    global connection
    connection = socket.create_connection(("127.0.0.1", {port}))

{connects}

async def bot(call):
    connection.sendall(b"who am I?")
    mine = connection.recv(64)
    numbers = [random.random(), numpy.random.random(), {rng}]
    call.save_state(mine + b"," + json.dumps(numbers).encode())
    async for _ in call:
        pass
"""


class Counting:
    """Answers each connection with a number of its own."""

    def __init__(self) -> None:
        self.connections = self.open_connections = 0

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        mine = self.connections
        while await reader.read(64):
            writer.write(str(mine).encode())
        writer.close()
        self.open_connections -= 1

    async def close(self) -> None:
        self._server.close()
        await until(lambda: not self.open_connections)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    counting = Counting()
    yield await counting.open()
    await counting.close()


async def answers_of_three_calls(folder: Path, text: str) -> list[tuple[str, str]]:
    """Three calls at once: each one's number of the server's, and the random numbers that it drew."""
    (folder / "asks.py").write_text(text)
    options = HostOptions(str(folder / "asks.py"), "a.b", warm=3, max=3)
    fleet = Fleet(options, str(folder), "key", lambda: None)
    links: list[Link] = []

    def ready() -> list[workers.Worker]:
        return [w for w in fleet.workers() if w.state == "ready"]

    def answer(link: Link) -> str:
        return next((base64.b64decode(m["state"]).decode() for m in link.said if m.get("type") == "state"), "")

    try:
        await fleet.start()
        await until(lambda: len(ready()) == 3, 30)
        for n, worker in enumerate(ready()):
            links.append((await Link().dial(worker.url, "key", f"s{n}", 1)).start(f"s{n}"))
        await until(lambda: all(answer(link) for link in links), 30)
        told: list[Any] = [answer(link).split(",", 1) for link in links]
        return [(number, drawn) for number, drawn in told]
    finally:
        for link in links:
            link.tell(pcm.Stop("caller_hangup"))
            await link.end()
        await fleet.stop()


async def test_each_call_has_the_connection_that_its_bot_opened_at_import(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    bot = ASKS.format(port=port, connects="connect()", rng=0)
    answers = await answers_of_three_calls(tmp_path, bot)
    assert len({number for number, _ in answers}) == 3
    assert f"asks.py: importing it leaves a connection to 127.0.0.1:{port}, which forked workers would" in caplog.text


async def test_what_prewarm_opens_is_each_workers_own_and_costs_no_fork(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    bot = ASKS.format(port=port, connects="prewarm = connect", rng=0)
    answers = await answers_of_three_calls(tmp_path, bot)
    assert len({number for number, _ in answers}) == 3
    assert "which forked workers would share" not in caplog.text


async def test_forked_workers_draw_different_numbers(tmp_path: Path, port: int) -> None:
    bot = ASKS.format(port=port, connects="prewarm = connect", rng=0)
    drawn = [json.loads(numbers) for _, numbers in await answers_of_three_calls(tmp_path, bot)]
    for each in list(zip(*drawn, strict=True))[:2]:
        assert len(set(each)) == 3


async def test_a_generator_of_the_bots_own_gives_each_worker_other_numbers(tmp_path: Path, port: int) -> None:
    bot = ASKS.format(port=port, connects="prewarm = connect\nrng = numpy.random.default_rng()", rng="rng.random()")
    drawn = [json.loads(numbers) for _, numbers in await answers_of_three_calls(tmp_path, bot)]
    assert len({numbers[2] for numbers in drawn}) == 3


async def test_torch_is_seeded_again_in_each_forked_worker(tmp_path: Path, port: int) -> None:
    """As numpy is; a module of that name stands in for it, as it is 2 GB."""
    (tmp_path / "torch.py").write_text("import os\nstate = 1\ndef seed():\n    global state\n    state = os.getpid()\n")
    bot = ASKS.format(port=port, connects="prewarm = connect\nimport torch", rng="torch.state")
    drawn = [json.loads(numbers) for _, numbers in await answers_of_three_calls(tmp_path, bot)]
    assert len({numbers[2] for numbers in drawn} - {1}) == 3


async def test_a_bot_whose_exit_never_ends_is_started_all_the_same(tmp_path: Path, port: int) -> None:
    """A thread that is not a daemon, and connections: neither the import nor a worker waits for it at its end."""
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    answers = await answers_of_three_calls(tmp_path, ASKS.format(port=port, connects=f"connect()\n{thread}", rng=0))
    assert len({number for number, _ in answers}) == 3


def test_a_peer_of_either_kind_of_address_is_named(tmp_path: Path, added: Callable[..., list[str]]) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(tmp_path / 's')!r})"
        assert added(code, tmp_path) == [f"a connection to {tmp_path / 's'}"]
