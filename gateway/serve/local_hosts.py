"""Keep worker hosts on this machine, one for each service with a `bot`.

They start and end with the gateway, and speak to it as remote ones do, over its own port. Only the gateway's death
leaves them running, with the calls that they have, for the grace in which it, or its successor, may take them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from pydantic import SecretStr

from gateway.carriers import CARRIERS
from gateway.errors import BotError, RegistryUnavailable
from gateway.node.node import Node
from gateway.node.worker_hosts import LOCAL_HOST
from gateway.secrecy import INSPECTABLE_VARIABLE
from gateway.settings import PREFIX, ServiceSettings, Settings
from gateway.worker.credentials import Credentials
from gateway.worker.host import DRAIN_SIGNAL
from gateway.worker.logs import LOG_VARIABLE
from gateway.worker.options import FAILURE_FD_VARIABLE, OPTIONS_FD_VARIABLE, PARENT_FD_VARIABLE, HostOptions

log = structlog.get_logger(__name__)

USER_ERROR = 2
"""A host's exit status when its bot cannot be used: starting it again would not help."""
RESTART_AFTER = 0.5
RESTART_AT_MOST = 30.0
"""Seconds until a host that has died is started again, doubled each time."""
END_SECONDS = 5.0
"""How long hosts may take to end when the gateway does; their calls have ended by then."""
MAX_WORDS = 4096
"""Bytes that a host may say of why it ended."""


class HostProcesses:
    """The hosts' processes.

    address: where the gateway listens, or all gateways of this machine do.

    What they and their bots print goes to our own stderr, and not through us: it must outlive us, as they do.
    Raises UserError for settings with which no host can be.
    """

    def __init__(self, settings: Settings, address: tuple[Any, ...], key: str) -> None:
        self.services = [section for section in settings.services if section.bot]
        host = "127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]  # noqa: S104 - compared, not bound
        gateway = f"ws://{f'[{host}]' if ':' in host else host}:{address[1]}"
        self.ids = {section.host: f"{LOCAL_HOST}{section.host}-{secrets.token_hex(3)}" for section in self.services}
        self._credentials = tuple(_credentials(settings))
        self._options = {section.host: self._options_of(section, gateway, key) for section in self.services}
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = False
        self._life: tuple[int, int] | None = None
        """A pipe. Each host holds the first end, and sees it end when the process with the other one has died."""
        self.failure: asyncio.Future[BotError] = asyncio.get_running_loop().create_future()
        """Set when a host says that its bot cannot be used."""

    def start(self) -> None:
        """Start them all, and start again those that die."""
        self._life = os.pipe()
        self._keepers = [asyncio.create_task(self._keep(s), name=f"worker host of {s.host}") for s in self.services]

    def let_end(self) -> None:
        """Start none again that ends from now on."""
        self._stopping = True

    def kill(self) -> None:
        """End them at once: no call has come to them yet."""
        self.let_end()
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()

    async def stop(self) -> None:
        """Wait for them to end, as their gateway has told them; end those that do not."""
        self.let_end()
        for keeper in self._keepers:
            keeper.cancel()
        processes = [process for process in self._processes.values() if process.returncode is None]
        for process in processes:  # also those that no gateway has, or has yet, a connection to
            process.send_signal(DRAIN_SIGNAL)
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*(process.wait() for process in processes))
        except TimeoutError:
            for process in processes:
                if process.returncode is None:
                    log.warning("worker host killed: it did not end", pid=process.pid)
                    process.kill()
        self._close()

    def _close(self) -> None:
        life, self._life = self._life, None
        for fd in life or ():
            os.close(fd)

    async def _keep(self, section: ServiceSettings) -> None:
        wait, first = RESTART_AFTER, True
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            try:
                status, why = await self._live(section.host)
            except OSError as e:  # no descriptor is left, or no memory for another process
                status, why = None, f"it cannot be started: {e.strerror or e}"
            if self._stopping:
                return
            if status == USER_ERROR and first:
                if not self.failure.done():
                    self.failure.set_result(BotError(f"{section.key_of_bot(why)}: {why}"))
                return
            # It was good once: what breaks it now, a half-finished deploy, say, will be mended.
            first = first and status is None
            if asyncio.get_running_loop().time() - started > RESTART_AT_MOST:
                wait = RESTART_AFTER
            known = {name: value for name, value in (("status", status), ("why", why)) if value not in (None, "")}
            log.error("worker host ended, starting it again", service=section.host, **known, seconds=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, RESTART_AT_MOST)

    async def _live(self, name: str) -> tuple[int, str]:
        """Run one host to its end; return its exit status and what it said of it.

        Raises OSError if it cannot be started.
        """
        words, theirs = os.pipe()
        try:
            try:
                process = self._processes[name] = await self._spawn(self._options[name], theirs)
            finally:
                os.close(theirs)
            status = await process.wait()
            os.set_blocking(words, False)  # a child of the host may still hold the other end
            with contextlib.suppress(BlockingIOError):
                return status, os.read(words, MAX_WORDS).decode(errors="replace").strip()
            return status, ""
        finally:
            os.close(words)

    async def _spawn(self, options: HostOptions, words: int) -> asyncio.subprocess.Process:
        # The options hold a key: through a pipe they show neither in the process list nor in the environment.
        read, write = os.pipe()
        assert self._life is not None
        inherited = (read, words, self._life[0])
        names = (OPTIONS_FD_VARIABLE, FAILURE_FD_VARIABLE, PARENT_FD_VARIABLE)
        ours = {name: str(fd) for name, fd in zip(names, inherited, strict=True)}
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "gateway.worker.host", env=_environment() | ours, pass_fds=inherited
                )
            finally:
                os.close(read)
            with contextlib.suppress(BrokenPipeError):  # it has died already: its status says how
                os.write(write, options.to_json())
        finally:
            os.close(write)
        return process

    def _options_of(self, section: ServiceSettings, gateway: str, key: str) -> HostOptions:
        return HostOptions(
            target=section.bot,
            service_host=section.host,
            gateways=(gateway,),
            key=key,
            warm=section.min_warm,
            max=section.max,
            host_id=self.ids[section.host],
            wrapup_seconds=section.wrapup_seconds,
            python=section.python,
            credentials=self._credentials,
        )


class LocalHosts:
    """What a gateway knows of the local hosts.

    processes: None where a parent keeps them, for several gateways.
    """

    def __init__(self, node: Node, settings: Settings, processes: HostProcesses | None) -> None:
        self._node = node
        self._services = [section for section in settings.services if section.bot]
        self._processes = processes
        self._warm: set[str] = set()

    def ready(self) -> bool:
        """Whether every local host has had its `min_warm`."""
        if self._processes is None:
            return len(self._warm) == len(self._services)
        ids = self._processes.ids
        return all(self._node.peak_ready.get(ids[s.host], 0) >= s.min_warm for s in self._services)

    async def until_ready(self) -> None:
        """Return when all are ready.

        Raises BotError if one never will be, as its bot cannot be used.
        """
        while not self.ready():
            if self._processes is None:
                await self._look()
            elif self._processes.failure.done():
                raise self._processes.failure.result()
            await asyncio.sleep(0.01)

    async def _look(self) -> None:
        """Ask the registry for hosts that are connected to another gateway."""
        for section in self._services:
            try:
                slots = await self._node.registry.slots(section.host)
            except RegistryUnavailable:
                return
            if slots.ready + slots.busy >= section.min_warm:
                self._warm.add(section.host)

    def start(self) -> None:
        """Start the processes, unless a parent keeps them."""
        if self._processes is not None:
            self._processes.start()

    def kill(self) -> None:
        """End the hosts that are ours at once: the gateway has never been ready."""
        if self._processes is not None:
            self._processes.kill()

    async def stop(self) -> None:
        """Tell the hosts that are connected here, and end those that are ours."""
        for host in tuple(self._node.hosts.values()):
            host.drain()
            host.close()
        if self._processes is not None:
            await self._processes.stop()


def _credentials(settings: Settings) -> Iterator[Credentials]:
    """Those that bots of Pipecat's find in the environment, of each account."""
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        for account in config.accounts if config is not None else ():
            values = {variable: getattr(account, entry.env[variable]) for variable in entry.bot_env}
            known = {variable: _first(value) for variable, value in values.items() if value}
            if known:
                yield Credentials(name, account.id, known)


def _first(value: str | Sequence[SecretStr]) -> str:
    return value if isinstance(value, str) else value[0].get_secret_value()


def _environment() -> dict[str, str]:
    """Return our environment without what is the gateway's alone.

    A bot needs no signing secret, and a carrier's token only if it speaks the carrier's wire: see `_credentials`.
    """
    ours = {name for entry in CARRIERS.values() for name in entry.env}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == INSPECTABLE_VARIABLE or (name not in ours and not name.startswith(PREFIX))
    }
    return kept | {LOG_VARIABLE: "console" if sys.stderr.isatty() else "json"}
