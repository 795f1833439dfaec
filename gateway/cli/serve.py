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

from gateway.cli.arguments import MOST_PORT, whole
from gateway.event_loop import loop_factory

if TYPE_CHECKING:
    from gateway.errors import BotError
    from gateway.settings import Settings

HELP = "run the gateway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML settings (default: $GATEWAY_CONFIG)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=whole(0, MOST_PORT),
        default=8080,
        metavar="N",
        help="port to listen on, 0 = any (default: %(default)s)",
    )
    parser.add_argument(
        "--processes",
        type=whole(1),
        default=1,
        metavar="N",
        help="gateways on one socket; more than one need Redis (default: %(default)s)",
    )
    parser.add_argument("--bot", metavar="TARGET", help="path/bot.py or package.module:function, for all calls")
    parser.add_argument("--dev", action="store_true", help="loopback only; open carriers, an echo bot")


def run(arguments: argparse.Namespace) -> int:
    from gateway.secrecy import hide_memory

    hide_memory()  # before anything takes its time: bots of another gateway may run

    from gateway.errors import SettingsError
    from gateway.logs import configure
    from gateway.serve.inheritance import PARENT_VARIABLE, SOCKET_VARIABLE
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
    read = load(arguments.config)
    settings = with_bot(read, bot=arguments.bot, dev=arguments.dev)
    _check_bots(settings, arguments.bot)
    if arguments.processes > 1 and settings.registry == "memory":
        raise SettingsError("--processes", 'several gateways need a registry that they share: registry = "redis://…"')

    from gateway.serve.listening import address, bind  # not before: a mistyped setting is said at once

    with socket.socket(fileno=int(inherited)) if inherited else bind(arguments.host, arguments.port) as sock:
        configure()
        if not settings.public_url and is_loopback(arguments.host):
            settings = settings.model_copy(update={"public_url": f"http://{address(sock)}"})
        notes = default_notes(read, settings)
        if arguments.processes > 1 and not inherited:
            _log(notes)
            return _run(_supervise(settings, sock, arguments))

        from gateway.serve.server import Server

        said = () if inherited else notes  # by our parent, if there is one
        server = Server(
            settings,
            sock,
            dev=arguments.dev,
            parent=int(parent) if parent else None,
            notes=said,
            on_unusable=lambda error: _say_unusable(error, settings, arguments.bot),
        )
        return _run(server.run())


def _log(notes: list[str]) -> None:
    import structlog

    for note in notes:
        structlog.get_logger(__name__).warning(note)


async def _supervise(settings: Settings, sock: socket.socket, arguments: argparse.Namespace) -> int:
    from gateway.serve.local_hosts import HostProcesses
    from gateway.serve.server import key_for_local_hosts
    from gateway.serve.supervisor import Supervisor

    hosts = HostProcesses(settings, sock.getsockname(), key_for_local_hosts(settings))
    return await Supervisor(sock, sys.argv[1:], arguments.processes, hosts).run()


def _run(serving: Coroutine[Any, Any, int]) -> int:
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(serving)
    finally:
        sys.stderr.flush()


def _say_unusable(error: BotError, settings: Settings, flag: str | None) -> None:
    """Say in one line why a bot cannot be used, under the name by which it was given."""
    said = str(error)
    for section in settings.services:
        if section.bot == flag:
            said = said.replace(f"services.{section.host}.bot:", "--bot:", 1)
    print(f"gateway serve: {said}", file=sys.stderr, flush=True)


def _check_bots(settings: Settings, flag: str | None) -> None:
    """Say at once what a worker host would find out. Raises SettingsError for a bot that is not there."""
    from gateway.errors import BotError, SettingsError
    from gateway.worker.bot_loader import check_target

    for section in settings.services:
        try:
            if section.bot:
                check_target(section.bot, elsewhere=bool(section.python))
        except BotError as error:
            raise SettingsError(
                "--bot" if section.bot == flag else f"services.{section.host}.bot", str(error)
            ) from None


def default_notes(configured: Settings, served: Settings) -> list[str]:
    """Say who answers calls to numbers that no service lists, where that may not be what was meant; a line each.

    configured: the settings as they were read. served: the same by `with_bot`.
    """
    from gateway.settings import DEV_SERVICE

    known = {service.host for service in configured.services}
    default = next((service.host for service in served.services if service.default), "")
    echo = default == DEV_SERVICE and DEV_SERVICE not in known
    if echo and not known:
        return ["the echo bot answers every call, as no service is configured: name your bot by --bot path/bot.py"]
    if len(known) > 1 and (echo or not default):
        get = "are answered by the echo bot" if echo else "are refused"
        return [f"no service is the default, so calls to numbers that none lists {get}: set default = true on one"]
    return []


def with_bot(settings: Settings, *, bot: str | None, dev: bool) -> Settings:
    """Return the settings with `--bot` for the default service, and in --dev with the echo service.

    One service alone is the default, as it is without --dev: the echo bot answers only where no service would.
    """
    from gateway.settings import DEV_SERVICE, ServiceSettings

    services = list(settings.services)
    if bot:
        at = next((i for i, s in enumerate(services) if s.default), 0 if len(services) == 1 else None)
        if at is not None:
            services[at] = services[at].with_bot(bot)
        else:
            services.append(ServiceSettings(host="bot", default=True, bot=bot))
    if len(services) == 1:
        services[0] = services[0].model_copy(update={"default": True})
    if dev and not any(s.host == DEV_SERVICE for s in services):
        default = not any(s.default for s in services)
        services.append(ServiceSettings(host=DEV_SERVICE, default=default, bot="gateway.worker.echo:bot"))
    return settings.model_copy(update={"services": tuple(services)})
