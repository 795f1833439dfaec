"""HAProxy with the configuration that is delivered, on loopback and without TLS, which is not what is tested here."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.program import free_port
from tests.kit.processes import Process
from tests.kit.waiting import until

DELIVERED = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
STATES = {"UP": "up", "NOLB": "draining", "DRAIN": "draining", "DOWN": "down"}


class HAProxy:
    """An async context manager. gateways: two, by name: the port where each is reached."""

    def __init__(self, folder: Path, port: int, gateways: Mapping[str, int]) -> None:
        self._names = {f"gateway-{number}": name for number, name in enumerate(gateways, 1)}
        self._admin = folder / "haproxy.sock"
        config = folder / "haproxy.cfg"
        config.write_text(_without_root_and_tls(DELIVERED.read_text()))
        env = {
            "HTTPS_BIND": f"127.0.0.1:{port}",
            "INTERNAL_BIND": f"127.0.0.1:{free_port()}",
            "OPERATOR_BIND": f"127.0.0.1:{free_port()}",
            "ADMIN_SOCKET": str(self._admin),
        } | {f"GATEWAY_{number}": f"127.0.0.1:{at}" for number, at in enumerate(gateways.values(), 1)}
        executable = shutil.which("haproxy")
        if executable is None:
            pytest.fail("no haproxy: apt-get install haproxy")
        self._process = Process("haproxy", folder, [executable, "-db", "-f", str(config)], env)

    async def __aenter__(self) -> HAProxy:
        self._process.start()
        try:
            for name in self._names.values():
                await self.until(name, "up")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.kill()

    async def until(self, name: str, state: str, seconds: float = 20.0) -> None:
        """Wait for a gateway to be seen up, draining or down."""
        seen: dict[str, str] = {}

        async def there() -> bool:
            seen.update(await self.states())
            return seen.get(name) == state

        await until(there, seconds, lambda: f"{name} is not {state}: {seen}\n{self._process.log()[-3000:]}")

    async def states(self) -> dict[str, str]:
        """Of each gateway, as HAProxy sees it."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._admin))
        except OSError:
            return {}
        writer.write(b"show stat\n")
        table = (await reader.read(-1)).decode()
        writer.close()
        rows = csv.DictReader(io.StringIO(table.removeprefix("# ")))
        return {
            self._names[row["svname"]]: STATES.get(row["status"].split()[0], row["status"])
            for row in rows
            if row["pxname"] == "gateways" and row["svname"] in self._names
        }


def _without_root_and_tls(text: str) -> str:
    lines = [line for line in text.splitlines() if line.split() not in (["user", "haproxy"], ["group", "haproxy"])]
    plain, count = re.subn(r" ssl crt \S+ alpn \S+", "", "\n".join(lines) + "\n")
    assert count == 1, "the line that binds the public port has changed"
    return plain
