"""What `gateway check` says of workers: of static ones that take no call, and of relayed bots that would hear noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli.check_records import NOTE

if TYPE_CHECKING:
    from gateway.settings import ServiceSettings, Settings

SECONDS = 2.0
"""A worker is given so long to answer."""
CLOSING = 0.05
"""The loop is left to close what was dropped."""
AT_ONCE = 50
"""So many are asked at a time."""
MOST_LINES = 10
"""Dead workers of one service that are named; of more, how many there are."""


def examine_relay(settings: Settings, service: ServiceSettings) -> Iterator[str]:
    """One line if a carrier here would speak what the serializers of Pipecat's bots do not read."""
    from gateway.carriers import CARRIERS
    from serializers.base import MediaFormat

    if service.protocol != "relay":
        return
    wanted, plain, noisy = service.service().media, MediaFormat("mulaw", 8000), []
    for name, entry in CARRIERS.items():
        config = settings.carrier(name)
        if config is None:
            continue
        carrier = entry.carrier(config, public_url=settings.public_url, dev=True)
        if carrier.negotiate(wanted) != carrier.negotiate(plain):
            noisy.append(name)
    if noisy:
        yield (
            f'services.{service.host}.codec: "{service.codec}" with relay is noise on {", ".join(noisy)} to bots with '
            'Pipecat\'s serializers: set codec = "mulaw", or protocol = "pcm"'
        )


def reach_workers(settings: Settings) -> Iterator[str]:
    """One line for each static worker that would take no call now. Its /ws is opened, as for a call, and closed."""
    import asyncio

    for service in settings.services:
        problems = asyncio.run(_problems(service)) if service.workers else []
        name = f"services.{service.host}.workers"
        for url, problem in problems[:MOST_LINES]:
            yield f"{'' if problem.endswith('take it out') else NOTE}{name}: {url} {problem}"
        if len(problems) > MOST_LINES:
            yield f"{name}: {len(problems) - MOST_LINES} more of {len(service.workers)} would take no call now"


async def _problems(service: ServiceSettings) -> list[tuple[str, str]]:
    import asyncio

    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(url: str) -> str:
        async with gate:
            return await _problem(service, url)

    found = await asyncio.gather(*(ask(url) for url in service.workers))
    await asyncio.sleep(CLOSING)
    return [(_shown(url), problem) for url, problem in zip(service.workers, found, strict=True) if problem]


async def _problem(service: ServiceSettings, url: str) -> str:
    """What is wrong with one, "" for nothing."""
    import asyncio

    from gateway.errors import LinkError, LinkRefused
    from gateway.node.probe import Probe
    from gateway.protocol import pcm
    from gateway.sockets import connect

    answered: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    probe = Probe(url, SECONDS, answered.set_result)
    probe.ask()
    status = await answered
    probe.close()
    if status == 503:  # its bot may be talking: that call is not to be disturbed
        return "is busy: its /readyz says 503"
    headers = {pcm.SESSION_HEADER: "gateway-check"}
    if service.link_key:
        headers["Authorization"] = f"Bearer {service.link_key[0].get_secret_value()}"
    relay = service.protocol == "relay"
    subprotocol = None if relay else pcm.SUBPROTOCOL
    link = _Silent()
    try:
        socket = await connect(url, link, headers=headers, subprotocol=subprotocol, timeout=SECONDS)
    except LinkRefused as error:
        return f"{_refusal(error.status)}: mend it or take it out"
    except LinkError as error:
        return f"takes no call, {error}: start it or take it out"
    socket.close()
    await link.gone.wait()
    return ""


def _refusal(status: int) -> str:
    words = {401: "refuses the link_key (401)", 403: "refuses the upgrade (403)", 404: "has no such path (404)"}
    return words.get(status, f"answers {status} in place of 101")


def _shown(url: str) -> str:
    """A URL without what may be a secret."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Silent:
    """Listens to nothing. gone: the link is closed, or the socket has waited long enough for that."""

    def __init__(self) -> None:
        import asyncio

        self.gone = asyncio.Event()

    def opened(self, socket: object) -> None:
        """Nothing to do."""

    def received(self, data: bytes, text: bool) -> None:
        """Nothing to do."""

    def closed(self, code: int, reason: str) -> None:
        self.gone.set()
