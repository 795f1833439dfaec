"""Where a worker host may say that its workers are: the gateway sends requests there, with the host's link key.

A worker host is a stranger with a key. Without a limit it could have the gateway knock at any door of its network: a
metrics page, a cloud's metadata at 169.254.169.254, another service's socket. So a name is resolved here, once for each
connection of a host, and the address that was checked is the one that is dialled (a name may lead elsewhere the next
time it is asked for).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

MAX_NAMES = 4
"""Different names in the workers' URLs of one host: it is one machine."""
RESOLVE_TIMEOUT = 5.0
"""Seconds for resolving a name, with the wait for those of other hosts."""
RESOLVING_AT_ONCE = 2
"""Names. Each takes a thread of the event loop's, which the carriers' REST APIs are resolved with, too."""


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A worker is not where it may be.

    reason: for the host, in at most 123 bytes, as a close frame takes no more.
    permanent: trying again would not help.
    address: where it is, for the log.
    """

    reason: str
    address: str = ""
    permanent: bool = True


class WorkerNetworks:
    """The networks that workers of hosts may be in, the same for all hosts of this process.

    networks: none for the default: a host's workers are at the address that it connects from.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._turns = asyncio.Semaphore(RESOLVING_AT_ONCE)

    def allow(self, address: Address, peer: str) -> bool:
        """Return whether workers of a host that connects from `peer` may be at this address."""
        if self._networks:
            return any(address in network for network in self._networks)
        from_where = _address(peer)
        if from_where is None:
            return False
        return address == from_where or (address.is_loopback and from_where.is_loopback)

    async def resolve(self, name: str) -> tuple[Address, ...]:
        """Return the addresses of this name, none if it has none. Raises TimeoutError."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                await self._turns.acquire()
                asked = asyncio.ensure_future(
                    asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
                )
                # Its thread is taken until there is an answer, though its task may have given up.
                asked.add_done_callback(self._answered)
                found = await asyncio.shield(asked)
        except (OSError, UnicodeError) as error:  # UnicodeError: what IDNA makes of "a..b"
            if isinstance(error, TimeoutError):
                raise
            return ()
        addresses = (_address(str(info[4][0])) for info in found)
        return tuple(address for address in addresses if address is not None)

    def _answered(self, asked: asyncio.Future[Any]) -> None:
        self._turns.release()
        if not asked.cancelled():
            asked.exception()  # seen


@dataclass(slots=True)
class HostPlace:
    """Where one connected host is, and where its workers may be.

    peer: the address that it connects from, "" if that is not known.
    local: this gateway has started it, so that its workers may listen on unix sockets.
    """

    networks: WorkerNetworks
    peer: str
    local: bool
    _located: Mapping[str, str] = field(default_factory=dict)
    """Of the last message: URL -> address."""
    _names: dict[str, str] = field(default_factory=dict)
    """Name -> address."""

    async def locate(self, urls: Iterable[str]) -> Mapping[str, str] | Misplaced:
        """Return the address to dial for each of these URLs, "" for a unix socket or for no URL."""
        located: dict[str, str] = {}
        for url in urls:
            if url in located:
                continue
            known = self._located.get(url)  # workers come and go, but most were in the last message
            found = known if known is not None else await self._locate(url)
            if isinstance(found, Misplaced):
                return found
            located[url] = found
        self._located = located
        return located

    async def _locate(self, url: str) -> str | Misplaced:
        if not url:
            return ""
        if url.startswith("unix:"):
            return (
                "" if self.local else Misplaced("workers on unix sockets are for hosts that the gateway starts itself")
            )
        try:
            name = urlsplit(url).hostname or ""
        except ValueError:  # brackets around what is no address
            name = ""
        if name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return Misplaced(f"its workers' URLs have more than {MAX_NAMES} different hosts")
            found = await self._resolve(name)
            if isinstance(found, Misplaced):
                return found
            self._names[name] = found
        return self._names[name]

    async def _resolve(self, name: str) -> str | Misplaced:
        shown = name if len(name) <= 45 else f"{name[:42]}..."
        address = _address(name)
        try:
            addresses = (address,) if address is not None else await self.networks.resolve(name)
        except TimeoutError:
            addresses = ()
        if not addresses:
            return Misplaced(f"the gateway cannot resolve --advertise {shown}", permanent=False)
        for one in addresses:
            if self.networks.allow(one, self.peer):
                return str(one)
        reason = f"--advertise {shown} is not in the gateway's [workers] networks: add it there"
        return Misplaced(reason, address=str(addresses[0]))


def _address(text: str) -> Address | None:
    """Return the address that is written here, or None. One of IPv4 in the clothes of IPv6 is one of IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
