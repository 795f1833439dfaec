"""`deploy/haproxy/haproxy.cfg` on free loopback ports, before gateways with one Redis and one worker host."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.program import (
    EXOTEL_SECRET,
    PLIVO_ID,
    PLIVO_TOKEN,
    SECRET,
    TELNYX_PUBLIC_KEY,
    TELNYX_SEED,
    TWILIO_SID,
    TWILIO_TOKEN,
    free_port,
)
from tests.kit.processes import PROGRAM, Process
from tests.kit.waiting import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
HAPROXY = DEPLOY / "haproxy" / "haproxy.cfg"
SERVICE = "support.acme"
API_KEY = "api-key-of-the-tests-0123456789"
WORKER_KEY = "worker-key-of-the-tests-0123456789"

GATEWAY_ENV = {
    "GATEWAY_SECRET": SECRET,
    "GATEWAY_WORKERS__KEYS": f'["{WORKER_KEY}"]',
    "GATEWAY_SERVICES": f'[{{"host": "{SERVICE}", "default": true}}]',
    "TWILIO_ACCOUNT_SID": TWILIO_SID,
    "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
    "TELNYX_API_KEY": "telnyx-api-key-of-the-tests",
    "TELNYX_PUBLIC_KEY": TELNYX_PUBLIC_KEY,
    "PLIVO_AUTH_ID": PLIVO_ID,
    "PLIVO_AUTH_TOKEN": PLIVO_TOKEN,
    "EXOTEL_ACCOUNT_SID": "exotel1",
    "EXOTEL_API_KEY": "exotel-api-key",
    "EXOTEL_API_TOKEN": "exotel-api-token-of-the-tests",
    "GATEWAY_CARRIERS__EXOTEL__WEBHOOK_SECRET": EXOTEL_SECRET,
}
"""Of a gateway, but for its addresses. No carrier's REST API is ever reached: bots do not hang up here."""

CALLER_ENV = {
    "TWILIO_ACCOUNT_SID": TWILIO_SID,
    "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
    "TELNYX_SIGNING_SEED": TELNYX_SEED.hex(),
    "PLIVO_AUTH_ID": PLIVO_ID,
    "PLIVO_AUTH_TOKEN": PLIVO_TOKEN,
    "EXOTEL_ACCOUNT_SID": "exotel1",
    "EXOTEL_WEBHOOK_SECRET": EXOTEL_SECRET,
}


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"no {name}: install Debian's {package}")
    return found


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost with its key, as HAProxy reads it. Valid for a day."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "voice.pem"
    subprocess.run(
        [
            *(tool("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text(certificate.read_text() + key.read_text())
    return both


class Gateway(Process):
    """`gateway serve` on ports of its own. `address` is what HAProxy is told."""

    def __init__(self, name: str, folder: Path, public_url: str, registry: str) -> None:
        self.port, self.ops = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__(
            name,
            folder,
            [*PROGRAM, "serve", "--port", str(self.port)],
            GATEWAY_ENV
            | {
                "GATEWAY_PUBLIC_URL": public_url,
                "GATEWAY_REGISTRY": registry,
                "GATEWAY_SERVER__OPS_BIND": f"127.0.0.1:{self.ops}",
            },
        )

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics", timeout=2) as answer:
            return str(answer.read().decode())

    def calls(self) -> int:
        """In progress on this node."""
        lines = [line for line in self.metrics().splitlines() if line.startswith("gateway_calls_active{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)


class WorkerHost(Process):
    """`gateway worker` with the echo bot, registered with each of these gateways."""

    def __init__(self, folder: Path, gateways: Sequence[str]) -> None:
        command = [*PROGRAM, "worker", "gateway.worker.echo:bot", "--service-host", SERVICE]
        for gateway in gateways:
            command += ["--gateway", gateway]
        super().__init__("host", folder, [*command, "--warm", "4", "--max", "60"], {"GATEWAY_WORKER_KEY": WORKER_KEY})


class Balancer(Process):
    """HAProxy with the configuration that is delivered. The two lines that need root are left out."""

    def __init__(self, folder: Path, gateways: Sequence[str], port: int) -> None:
        self.port, self.internal, self.operator = port, free_port(), free_port()
        self.certificate = make_certificate(folder)
        self._socket = folder / "admin.sock"
        text = HAPROXY.read_text()
        lines = [line for line in text.splitlines() if line.split() not in (["user", "haproxy"], ["group", "haproxy"])]
        config = folder / "haproxy.cfg"
        config.write_text("\n".join(lines) + "\n")
        super().__init__(
            "haproxy",
            folder,
            [tool("haproxy", "haproxy"), "-W", "-db", "-f", str(config)],
            {
                "CERTIFICATE": str(self.certificate),
                "HTTPS_BIND": f"127.0.0.1:{port}",
                "INTERNAL_BIND": f"127.0.0.1:{self.internal}",
                "OPERATOR_BIND": f"127.0.0.1:{self.operator}",
                "ADMIN_SOCKET": str(self._socket),
                "GATEWAY_1": gateways[0],
                "GATEWAY_2": gateways[1],
            },
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def admin(self, command: str) -> str:
        """What the administration socket answers."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._socket))
            asking.sendall(command.encode() + b"\n")
            answer = b""
            while more := asking.recv(65536):
                answer += more
        return answer.decode()

    def states(self) -> dict[str, str]:
        """Of each gateway, as HAProxy calls it: "UP", "NOLB" (draining), "DRAIN" (by hand), "DOWN"."""
        try:
            table = self.admin("show stat")
        except OSError:
            return {}
        rows = csv.DictReader(io.StringIO(table.removeprefix("# ")))
        return {
            row["svname"]: row["status"].split()[0]
            for row in rows
            if row["pxname"] == "gateways" and row["svname"] != "BACKEND"
        }

    def until(self, gateway: str, *states: str, seconds: float = 5.0) -> None:
        wait_for(lambda: self.states().get(gateway) in states, seconds, lambda: f"{self.states()}\n{self.log()}")

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


class Caller(Process):
    """`gateway call` through the balancer, over TLS that it verifies."""

    def __init__(self, carrier: str, folder: Path, balancer: Balancer, *, seconds: float) -> None:
        command = [*PROGRAM, "call", "--carrier", carrier, "--url", balancer.url]
        super().__init__(
            f"call-{carrier}-{free_port()}",
            folder,
            [*command, "--seconds", f"{seconds:g}"],
            CALLER_ENV | {"SSL_CERT_FILE": str(balancer.certificate)},
        )


class Load(Process):
    """`gateway load` through the balancer: all carriers in turn."""

    def __init__(self, folder: Path, balancer: Balancer, *, calls: int, rate: float, seconds: float) -> None:
        self.report = folder / "load.json"
        command = [*PROGRAM, "load", "--carrier", "twilio,telnyx,plivo,exotel"]
        command += ["--url", balancer.url, "--calls", f"{calls}", "--rate", f"{rate:g}", "--seconds", f"{seconds:g}"]
        env = CALLER_ENV | {"SSL_CERT_FILE": str(balancer.certificate)}
        super().__init__("load", folder, [*command, "--json", str(self.report)], env)

    def results(self, seconds: float) -> list[str]:
        """ "answered", "refused" or "failed" for each call, with the reason. Waits for the end."""
        status = self.wait(seconds)
        assert status in (0, 1), self.log()  # 1 also if the load was late itself, on a busy machine
        calls = json.loads(self.report.read_text())["calls"]
        return [" ".join([call["result"], call["reason"], *call["faults"]]).strip() for call in calls]
