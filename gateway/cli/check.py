"""Validate the settings, and say, a line each, what would refuse or lose calls in production.

Asks the Redis of `registry` and the database of `records` whether they are there, opens a link to each static worker,
and starts one worker of each bot, to say how many of them `min_warm` must keep ready for the calls that come meanwhile.

Lines that begin with "note" are no fault. Exit status: 0 = these settings can take calls, 1 = something would go wrong,
2 = the settings cannot be read.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli.arguments import positive
from gateway.cli.check_records import NOTE, examine_records, reach_records
from gateway.cli.check_workers import examine_relay, reach_workers

if TYPE_CHECKING:
    from gateway.settings import ServiceSettings, Settings
    from gateway.settings_sections import DialoutSettings

MEASURE_SECONDS = 10.0
"""How long one bot may take to be imported and started here. Slower ones exist; this is a check."""
NEVER_WORKERS = ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10")
"""Loopback and link-local addresses: this machine's own pages, and a cloud's metadata at 169.254.169.254."""
HELP = "validate settings; say what would refuse or lose calls"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML settings (default: $GATEWAY_CONFIG)")
    parser.add_argument(
        "--cps", type=positive, metavar="N", help="calls a second to be ready for (default: [dialout] cps)"
    )
    parser.add_argument(
        "--no-measure", action="store_true", help="start no worker and open no link to one: nothing of a bot is run"
    )


def run(arguments: argparse.Namespace) -> int:
    from gateway.settings import load

    settings = load(arguments.config)
    findings = [*examine(settings), *readable_by_all(arguments.config), *reach(settings), *reach_records(settings)]
    if not arguments.no_measure:
        findings += [*reach_workers(settings), *measure(settings, arguments.cps or settings.dialout.cps)]
    for finding in findings:
        print(finding)
    wrong = [finding for finding in findings if not finding.startswith(NOTE)]
    if not wrong:
        print("these settings can take calls")
    return 1 if wrong else 0


def readable_by_all(path: str | None) -> Iterator[str]:
    """One line if every user of this machine can read the settings file, and there is a secret in it."""
    import stat
    from pathlib import Path

    from gateway.settings import CONFIG_VARIABLE, load

    path = path or os.environ.get(CONFIG_VARIABLE)
    if path and Path(path).stat().st_mode & stat.S_IROTH and _has_secret(load(path, {})):
        yield f"{NOTE}--config: every user of this machine can read the secrets in it: chmod o-r {path}"


def _has_secret(value: object) -> bool:
    """Whether there is a secret in these settings, at any depth."""
    from pydantic import BaseModel, SecretStr

    match value:
        case SecretStr():
            return bool(value.get_secret_value())
        case BaseModel():
            return any(_has_secret(one) for _, one in value)
        case dict():
            return any(_has_secret(one) for one in value.values())
        case tuple() | list():
            return any(_has_secret(one) for one in value)
    return False


def examine(settings: Settings) -> Iterator[str]:
    """One line for each thing that would refuse or lose calls, naming the setting and the mend."""
    if not settings.public_url:
        yield "public_url: missing, no carrier can be answered: set the https URL that carriers call"
    if not settings.secret:
        yield "secret: missing, one is made up at each start and calls do not survive a restart: set a long random one"
    elif any(len(key.get_secret_value()) < 16 for key in settings.secret):
        yield "secret: shorter than 16 characters, stream tokens could be guessed: set a long random one"
    for key in settings.api.keys:
        if any(len(secret.get_secret_value()) < 16 for secret in key.key):
            yield f"api.keys: {key.name} is shorter than 16 characters, it could be guessed: set a long random one"
    yield from _carriers(settings)
    yield from _dialout(settings)
    yield from _services(settings)
    yield from _worker_hosts(settings)
    yield from examine_records(settings)
    yield from _events(settings)
    for service in settings.services:
        if service.record:
            yield f"{NOTE}services.{service.host}.record: callers' words are kept, for bug reports only"


def _carriers(settings: Settings) -> Iterator[str]:
    from gateway.carriers import CARRIERS

    none = not any(settings.carrier(name) for name in CARRIERS)
    if none:
        yield "carriers: none has credentials, every webhook answers 404: add a section for the one you use"
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        if config is None:
            names = ", ".join(entry.env)
            yield f"{NOTE}carriers.{name}: no credentials, its webhooks answer 404: set [carriers.{name}] or {names}"
        elif lacking := config.lacks():
            yield f"carriers.{name}.{lacking}: missing, webhooks cannot be verified and answer 404: set it"


def _dialout(settings: Settings) -> Iterator[str]:
    """What would keep calls from being placed, where they may be placed at all."""
    from gateway.carriers import CARRIERS

    section = settings.dialout
    asks = any("calls:write" in key.scopes or "start" in key.scopes for key in settings.api.api_keys())
    if section.allow and asks and not section.callers:
        yield f"{NOTE}dialout.callers: none, so no calls are placed: list your numbers that they may come from"
    if section.callers and not section.allow:
        yield f"{NOTE}dialout.allow: empty, so no calls are placed: add prefixes or regions"
    if not section.allow:
        return
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        if config is not None and entry.carrier.can.place_calls and (lacking := config.lacks_to_dial()):
            yield f"{NOTE}carriers.{name}.{lacking}: missing, this carrier places no calls: set it to call out"


def _services(settings: Settings) -> Iterator[str]:
    if not settings.services:
        yield "services: none, every call is refused: add a [[services]] with a host and a bot"
    elif len(settings.services) > 1 and not any(service.default for service in settings.services):
        yield "services: none is the default, calls to numbers not listed are refused: set default = true on one"
    for service in settings.services:
        yield from _service(service, hosts_may_register=bool(settings.workers.keys))
        yield from examine_relay(settings, service)
        yield from _fallbacks(service, settings.dialout)


def _worker_hosts(settings: Settings) -> Iterator[str]:
    from ipaddress import ip_network

    never = [ip_network(one) for one in NEVER_WORKERS]
    name, networks = "workers.networks", settings.workers.networks
    if networks and not settings.workers.keys:
        yield f"{NOTE}{name}: no effect, as no host elsewhere can register: set [workers] keys"
    if settings.workers.keys and not networks:
        yield f"{NOTE}{name}: not set, the workers of a host must be at the address that it connects from"
    for network in networks:
        if network.prefixlen == 0:
            yield f"{name}: {network} is every address, a host could send the gateway anywhere: name your networks"
        elif any(network.overlaps(one) for one in never if one.version == network.version):
            yield f"{NOTE}{name}: {network} has addresses of this machine, or of a cloud's metadata, in it"


def _events(settings: Settings) -> Iterator[str]:
    from gateway.outbox.signing import SHORT, secret_bytes

    if settings.events and not settings.records:
        yield "events: none is sent, as they are kept in the database of records: set records"
    for place, endpoint in enumerate(settings.events):
        if any(len(secret_bytes(secret.get_secret_value())) < SHORT for secret in endpoint.secret):
            yield f"{NOTE}events.{place}.secret: stands for less than {SHORT} bytes, which Standard Webhooks asks for"


def _service(service: ServiceSettings, *, hosts_may_register: bool) -> Iterator[str]:
    name = f"services.{service.host}"
    if not service.bot and not service.workers:
        note = NOTE if hosts_may_register else ""
        yield f"{note}{name}: neither bot nor workers, only hosts that register by [workers] keys can take its calls"
    if service.bot and service.min_warm == 0:
        yield f"{name}.min_warm: 0, every caller waits for a cold start: keep at least one ready"
    if service.bot:
        from gateway.errors import BotError
        from gateway.worker.bot_loader import check_target

        try:
            check_target(service.bot, elsewhere=bool(service.python))
        except BotError as error:
            yield f"{name}.bot: {error}"
        if service.python and shutil.which(service.python) is None:
            yield f"{name}.python: {service.python}: there is no such program: name that of the bot's environment"


def _fallbacks(service: ServiceSettings, dialout: DialoutSettings) -> Iterator[str]:
    """What callers get while there is no bot for them."""
    from gateway.errors import SettingsError
    from gateway.node.dial_policy import DialPolicy
    from gateway.serve.app import announcement, hold_audio

    may_dial = DialPolicy(dialout.allow)
    for setting, fallback in (("when_full", service.when_full), ("when_down", service.when_down)):
        name = f"services.{service.host}.{setting}"
        if fallback.kind == "forward" and not may_dial(fallback.to):
            yield f"{name}: [dialout] allow does not allow this number, callers get busy: add its prefix or region"
        if fallback.kind == "message":
            yield f"{NOTE}{name}: this version plays no message, callers get busy"
    for read in (hold_audio, announcement):
        try:
            read(service)
        except SettingsError as error:
            yield str(error)


def reach(settings: Settings) -> Iterator[str]:
    """One line if the registry is a Redis that cannot be used. Raises SettingsError for a URL that means nothing."""
    if settings.registry == "memory":
        return
    import asyncio

    if problem := asyncio.run(_ask_redis(settings.registry)):
        yield f"registry: the Redis {problem}"


async def _ask_redis(url: str) -> str:
    """What is wrong with it, "" for nothing. In words of ours: redis-py's name hosts and users, and what it takes for
    them may be part of a password with a character in it that should have been escaped.
    """
    from redis import exceptions

    from gateway.pool.redis.client import ANSWER_TIMEOUT, RedisClient
    from gateway.pool.registry import Leases
    from gateway.serve.app import make_registry

    make_registry(url, Leases())  # says more of a bad URL
    client = RedisClient(url)
    try:
        await client.command("PING")
    except (exceptions.RedisError, OSError) as error:
        reasons = list(_reasons(error))
        if any(isinstance(reason, exceptions.AuthenticationError) for reason in reasons):
            return "refuses the user and password of the URL"
        if any(isinstance(reason, (exceptions.TimeoutError, TimeoutError)) for reason in reasons):
            return f"does not answer within {ANSWER_TIMEOUT:g} s"
        numbers = [reason.errno for reason in reasons if isinstance(reason, OSError) and reason.errno]
        known = [os.strerror(number) if number > 0 else "no such host" for number in numbers]  # < 0: getaddrinfo's
        return f"cannot be reached: {known[0] if known else type(error).__name__}"
    except TypeError:  # so redis-py says it, with the first connection
        return "cannot be reached: the URL has an option that there is not"
    finally:
        await client.close()
    return ""


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of: redis-py tells the reason, a ConnectionError hides it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def measure(settings: Settings, cps: float) -> Iterator[str]:
    """One line for each bot: how long its workers take to start, and how many must be warm for that."""
    from gateway.errors import BotError
    from gateway.worker.bot_loader import check_target

    for service in settings.services:
        try:
            check_target(service.bot, elsewhere=bool(service.python))
        except BotError:
            continue  # there is none, as `examine` has said
        try:
            yield _measured(service, cps)
        except BotError as error:
            yield f"{service.key_of_bot(str(error))}: {error}"


def _measured(service: ServiceSettings, cps: float) -> str:
    import asyncio

    from gateway.cli.start_time import measure_start, needed_warm

    try:
        seconds = asyncio.run(measure_start(service.bot, MEASURE_SECONDS, service.python))
        takes = f"a worker starts in {seconds * 1000:.0f} ms"
    except TimeoutError:
        seconds = MEASURE_SECONDS
        takes = f"a worker takes more than {seconds:.0f} s to start"
    needed = needed_warm(cps, seconds)
    name = f"services.{service.host}.min_warm"
    line = f"{name}: {takes}; {cps:g} calls/s need {needed} warm, it is {service.min_warm}"
    return NOTE + line if service.min_warm >= needed else line
