"""The program under test, as its user meets it: a subprocess, its port and its stderr. Nothing of it is imported."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kit.processes import environment
from tests.kit.waiting import PATIENCE, SCALE, SECONDS, wait_for

HERE = Path(__file__).parent

TWILIO_SID = "AC753e92f9dcc815f84a51038047b6d39a"
TWILIO_TOKEN = "twilio-auth-token-of-the-tests"
SECOND_TWILIO_SID = "AC8607e137928e86ec5c2474be65cfeaf6"  # the account of the recorded stream
SECOND_TWILIO_TOKEN = "second-twilio-auth-token-of-the-tests"
TELNYX_SEED = bytes(range(32))
TELNYX_PUBLIC_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
PLIVO_ID = "MAD57ECB8CAC269549FE"
PLIVO_TOKEN = "plivo-auth-token-of-the-tests"
EXOTEL_SECRET = "exotel-webhook-secret-of-the-tests"
SECRET = "node-secret-of-the-tests-0123456789"
STREAM_KEYS = {name: f"{name}-stream-key-of-the-tests" for name in ("twilio", "telnyx", "plivo", "exotel")}

SECRETS = (
    TWILIO_TOKEN,
    SECOND_TWILIO_TOKEN,
    TELNYX_PUBLIC_KEY,
    PLIVO_TOKEN,
    EXOTEL_SECRET,
    SECRET,
    "telnyx-api-key-of-the-tests",
    "exotel-api-token-of-the-tests",
    *STREAM_KEYS.values(),
)


def settings(
    *services: str, api_url: str = "http://127.0.0.1:9", public_url: str = "", carriers: str | None = None
) -> str:
    """A whole configuration: all four carriers with credentials, and ``services`` (TOML of each)."""
    ours = f"""
[[carriers.twilio.accounts]]
account_sid = "{TWILIO_SID}"
auth_token = "{TWILIO_TOKEN}"
[[carriers.twilio.accounts]]
account_sid = "{SECOND_TWILIO_SID}"
auth_token = "{SECOND_TWILIO_TOKEN}"
[carriers.twilio]
stream_key = "{STREAM_KEYS["twilio"]}"
api_url = "{api_url}"
[carriers.telnyx]
api_key = "telnyx-api-key-of-the-tests"
public_key = "{TELNYX_PUBLIC_KEY}"
stream_key = "{STREAM_KEYS["telnyx"]}"
api_url = "{api_url}"
[carriers.plivo]
auth_id = "{PLIVO_ID}"
auth_token = "{PLIVO_TOKEN}"
stream_key = "{STREAM_KEYS["plivo"]}"
api_url = "{api_url}"
[carriers.exotel]
account_sid = "exotel1"
api_key = "exotel-api-key"
api_token = "exotel-api-token-of-the-tests"
webhook_secret = "{EXOTEL_SECRET}"
stream_key = "{STREAM_KEYS["exotel"]}"
api_url = "{api_url}"
region = "IN"
"""
    head = f'secret = "{SECRET}"\nrecords = ""\n'
    if public_url:
        head += f'public_url = "{public_url}"\n'
    # How busy the machine is decides no test: a gateway that finds itself overloaded refuses callers.
    head += '[server]\nops_bind = "127.0.0.1:0"\noverload_lag_ms = 1000\n'
    return head + (ours if carriers is None else carriers) + "".join(f"\n[[services]]\n{one}\n" for one in services)


def service(host: str, bot: Path, **values: Any) -> str:
    lines = [f"host = {json.dumps(host)}", f"bot = {json.dumps(str(bot))}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in ({"max": 60, "wrapup_seconds": 1} | values).items()]
    return "\n".join(lines)


_given: set[int] = set()


def free_port() -> int:
    """One that stays free until its server comes: below those that the kernel gives to whoever connects (ip(7))."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # not `random`: hypothesis seeds that, in every process alike
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def run(
    *arguments: str, timeout: float = 3 * SECONDS, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout * SCALE,
        env=environment() | (env or {}),
        check=False,
    )


class Program:
    """One `gateway …`, until the end of the `with`. lines: what it has said so far, on stderr."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment() | (env or {}),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def text(self) -> str:
        return "".join(self.lines)

    def records(self, since: int = 0, before: int | None = None) -> list[dict[str, Any]]:
        """Of those lines that are JSON."""
        found = []
        for line in self.lines[since:before]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def log(self, event: str, since: int = 0, timeout: float = SECONDS, nth: int = 1) -> dict[str, Any]:
        """The nth log record whose event contains ``event``; AssertionError with the whole log if none comes."""

        def find() -> dict[str, Any] | None:
            found = [one for one in self.records(since) if event in str(one.get("event"))]
            return found[nth - 1] if len(found) >= nth else None

        found = wait_for(find, timeout, lambda: f"no log line {event!r} (the {nth}.) in:\n{self.text()}")
        assert found is not None
        return found

    def alive(self) -> bool:
        return self.process.poll() is None

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = SECONDS) -> int:
        return self.process.wait(timeout * SCALE)

    def kill(self) -> None:
        """Ends the process, and the bots of the process group that it leads."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stderr:
            self.process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive():
            self.terminate()
            try:
                time.sleep(0.05)
                self.terminate()  # a second one: do not wait for calls that a failed test left
                self.wait()
            except (subprocess.TimeoutExpired, ProcessLookupError):
                pass
        self.kill()


class Gateway(Program):
    """`gateway serve`, which is ready. url: where it listens. patience: seconds until it must be."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, patience: float = 3 * SECONDS) -> None:
        super().__init__("serve", *arguments, env=env)
        try:
            # Not `log("ready")`: there is also the worker that "is not ready after 3 s".
            ready = wait_for(
                lambda: next((one for one in self.records() if one.get("event") == "ready"), None),
                patience,
                lambda: f"not ready:\n{self.text()}",
            )
            assert ready is not None
        except AssertionError:
            self.kill()
            raise
        self.public_url: str = ready["public_url"]
        self.url = self.public_url

    @classmethod
    def of(
        cls,
        folder: Path,
        config: str,
        *arguments: str,
        env: dict[str, str] | None = None,
        patience: float = 3 * SECONDS,
    ) -> Gateway:
        """Serves ``config`` on any free port."""
        file = folder / f"gateway-{time.monotonic_ns()}.toml"
        file.write_text(config)
        return cls("--config", str(file), "--port", "0", *arguments, env=env, patience=patience)

    def fence(self) -> int:
        """Has it log a line that is told from all others, and waits for that; its index in ``lines``. Lines come in
        their order: what was logged before is there before it, and all of it.
        """

        def found() -> list[int]:
            ours = {"event": "refused", "where": "upgrade", "reason": "unknown_path"}
            lines = enumerate(self.lines)
            return [n for n, line in lines if line.startswith("{") and ours.items() <= json.loads(line).items()]

        before = len(found())
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers = upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        # httpx would make a TLS context first, which takes longer than all the rest.
        asking = HTTPConnection(self.url.removeprefix("http://"), timeout=PATIENCE)
        with contextlib.closing(asking):
            asking.request("GET", "/a/fence", headers=headers)
            assert asking.getresponse().status == 404
        wait_for(lambda: len(found()) > before)
        return found()[-1]

    def assert_clean(self, *also: str) -> None:
        """Nothing in the log that has no place there: tracebacks, secrets, tokens, paths that hold tokens."""
        log = self.text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
        for secret in (*SECRETS, *also):
            assert secret not in log, f"{secret!r} is in the log"
        for path in ("/ws/twilio/", "/ws/telnyx/", "/ws/plivo/", "/ws/exotel/"):
            assert path not in log, f"a raw path is in the log: {log[log.index(path) - 200 :][:500]}"


class CarrierRest:
    """A REST API of no carrier in particular: says yes to everything and remembers what was asked."""

    def __init__(self) -> None:
        asked: list[tuple[str, str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a connection that says nothing must not hold up `close`

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                asked.append((self.command, self.path, body))
                if self.command == "DELETE":
                    self.send_response(204)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"sid": "CA1", "status": "completed", "data": {"result": "ok"}}')

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names http.server looks for

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
                pass

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # `close` waits for them: a socket left open is found in a later test
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def ordered(self) -> list[tuple[str, str, str]]:
        """What was asked but for questions, such as how a call ended."""
        return [request for request in self.asked if request[0] != "GET"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
