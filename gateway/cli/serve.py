"""Run the gateway: answer carriers' webhooks, take their streams, keep bots warm.

--dev is for trying things out: loopback only, carriers without credentials are open, signatures are not required, and
an echo bot answers every call unless you name another with --bot.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.settings import Settings

HELP = "run the gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML settings (default: $GATEWAY_CONFIG)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 0 = any (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="gateways on one socket; needs Redis")
    parser.add_argument("--bot", metavar="TARGET", help="path/bot.py or package.module:function, for all calls")
    parser.add_argument("--dev", action="store_true", help="loopback only; open carriers, an echo bot")


def run(arguments: argparse.Namespace) -> int:
    from gateway.secrecy import hide_memory

    hide_memory()  # before anything takes its time: bots of another gateway may run

    from gateway.errors import SettingsError
    from gateway.logs import configure
    from gateway.serve.listening import address, bind
    from gateway.serve.server import Server
    from gateway.serve.supervisor import PARENT_VARIABLE, SOCKET_VARIABLE
    from gateway.settings import configured, is_loopback, load

    # Before they are taken for settings.
    inherited, parent = os.environ.pop(SOCKET_VARIABLE, ""), os.environ.pop(PARENT_VARIABLE, "")
    if not arguments.dev and not configured(arguments.config):
        raise SettingsError(
            "--config",
            "nothing is configured: name a TOML file, set a carrier's credentials in the environment, or try --dev",
        )
    if arguments.dev and not is_loopback(arguments.host):
        raise SettingsError("--dev", f"is open to everybody and binds loopback only, not {arguments.host}")
    settings = with_bot(load(arguments.config), bot=arguments.bot, dev=arguments.dev)
    _check_bots(settings, arguments.bot)
    if arguments.processes < 1 or (arguments.processes > 1 and settings.registry == "memory"):
        raise SettingsError("--processes", 'several gateways need a registry that they share: registry = "redis://…"')
    sock = socket.socket(fileno=int(inherited)) if inherited else bind(arguments.host, arguments.port)
    configure()
    if not settings.public_url and is_loopback(arguments.host):
        settings = settings.model_copy(update={"public_url": f"http://{address(sock)}"})
    if arguments.processes > 1 and not inherited:
        return _run(_supervise(settings, sock, arguments))
    server = Server(settings, sock, dev=arguments.dev, parent=int(parent) if parent else None)
    return _run(server.run())


async def _supervise(settings: Settings, sock: socket.socket, arguments: argparse.Namespace) -> int:
    from gateway.serve.local_hosts import HostProcesses
    from gateway.serve.server import key_for_local_hosts
    from gateway.serve.supervisor import Supervisor

    hosts = HostProcesses(settings, sock.getsockname(), key_for_local_hosts(settings))
    return await Supervisor(sock, sys.argv[1:], arguments.processes, hosts).run()


def _run(serving: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop

        return uvloop.run(serving)
    except ImportError:  # pragma: no cover - uvloop has no wheel for every platform
        return asyncio.run(serving)
    finally:
        sys.stderr.flush()


def _check_bots(settings: Settings, flag: str | None) -> None:
    """Say at once what a worker host would find out. Raises SettingsError for a bot that is not there."""
    from gateway.errors import BotError, SettingsError
    from gateway.worker.bot_loader import check_target

    for section in settings.services:
        try:
            if section.bot:
                check_target(section.bot)
        except BotError as error:
            raise SettingsError(
                "--bot" if section.bot == flag else f"services.{section.host}.bot", str(error)
            ) from None


def with_bot(settings: Settings, *, bot: str | None, dev: bool) -> Settings:
    """The settings with `--bot` for the default service; in --dev at least the echo service."""
    from gateway.settings import DEV_SERVICE, ServiceSettings

    services = list(settings.services)
    if bot:
        at = next((i for i, s in enumerate(services) if s.default), 0 if len(services) == 1 else None)
        if at is not None:
            services[at] = services[at].with_bot(bot)
        else:
            services.append(ServiceSettings(host="bot", default=True, bot=bot))
    if dev and not any(s.host == DEV_SERVICE for s in services):
        echo = ServiceSettings(host=DEV_SERVICE, bot="gateway.worker.echo:bot")
        services.append(echo.model_copy(update={"default": not any(s.default for s in services)}))
    return settings.model_copy(update={"services": tuple(services)})
