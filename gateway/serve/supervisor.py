"""`gateway serve --processes N`: N gateways inherit their parent's socket.

Not SO_REUSEPORT: there each process has a queue of its own, and takes what waits in it along when it dies (measured: of
60 connections 27 were answered; with one inherited socket 59). The parent also starts the worker hosts, so that none of
the gateways is special: any of them may die, and is started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import structlog

from gateway.serve.inheritance import PARENT_VARIABLE, SOCKET_VARIABLE
from gateway.serve.local_hosts import USER_ERROR, HostProcesses

log = structlog.get_logger(__name__)

RESTART_AFTER = 0.5
RESTART_AT_MOST = 10.0
"""Seconds until a gateway that has died is started again, doubled while it dies young."""
YOUNG = 10.0


class Supervisor:
    """The parent process.

    arguments: of the command line, for the children. count: of gateways.
    """

    def __init__(self, sock: socket.socket, arguments: Sequence[str], count: int, hosts: HostProcesses) -> None:
        self._sock = sock
        self._arguments = arguments
        self._count = count
        self._hosts = hosts
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = False
        self._status = 0
        self._life, self._held_open = os.pipe()

    async def run(self) -> int:
        """Serve until told to stop and the last gateway has drained; return the exit status.

        Raises BotError if a worker host says that its bot cannot be used.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._pass_on, signum)
        self._hosts.failure.add_done_callback(lambda _: self._pass_on(signal.SIGTERM))
        self._hosts.start()
        try:
            await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        finally:
            await self._hosts.stop()
        if self._hosts.failure.done():
            raise self._hosts.failure.result()
        return self._status

    def _pass_on(self, signum: int) -> None:
        self._stopping = True
        self._hosts.let_end()
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(signum)

    async def _keep(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        wait = RESTART_AFTER
        while not self._stopping:
            started = loop.time()
            try:
                child = self._children[number] = await self._spawn()
            except OSError as e:  # no descriptor is left, or no memory for another process
                wait = min(2 * wait, RESTART_AT_MOST)
                log.error("a gateway cannot be started, trying again", why=e.strerror or str(e), seconds=wait)
                await asyncio.sleep(wait)
                continue
            if self._stopping:  # told while it was being started
                child.send_signal(signal.SIGTERM)
            status = await child.wait()
            if self._stopping:
                self._status = self._status or abs(status)
                return
            if status == USER_ERROR:  # it has said why, and will again
                self._status = USER_ERROR
                self._pass_on(signal.SIGTERM)
                return
            wait = RESTART_AFTER if loop.time() - started > YOUNG else min(2 * wait, RESTART_AT_MOST)
            log.error("a gateway has died, starting it again", pid=child.pid, status=status, seconds=wait)
            await asyncio.sleep(wait)

    async def _spawn(self) -> asyncio.subprocess.Process:
        fd = self._sock.fileno()
        ours = {SOCKET_VARIABLE: str(fd), PARENT_VARIABLE: str(self._life)}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "gateway", *self._arguments,
            env=os.environ | ours, pass_fds=(fd, self._life),
        )  # fmt: skip
