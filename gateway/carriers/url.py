"""URLs as signatures need them.

Made from `public_url`, never from what a request says of itself.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.carriers.base import HttpRequest

_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SOCKETS = {"https": "wss", "http": "ws"}


def signed_url(base: str, request: HttpRequest) -> str:
    """The URL as the carrier called it. base: `public_url`, or another form of it."""
    return f"{base}{request.path}?{request.query}" if request.query else f"{base}{request.path}"


def with_scheme(public_url: str, scheme: str) -> str:
    """`public_url` under another scheme; port and path stay."""
    return f"{scheme}://{public_url.partition('://')[2]}"


def socket_url(public_url: str) -> str:
    """`public_url` as WebSockets have it: wss for https, ws for http."""
    scheme = public_url.partition("://")[0].lower()
    return with_scheme(public_url, _SOCKETS.get(scheme, scheme))


def port_forms(base: str) -> tuple[str, str]:
    """Write `base` without and with a port.

    The scheme's own if it has none. Knows IPv6 hosts and wss.
    """
    scheme, _, rest = base.partition("://")
    netloc, slash, path = rest.partition("/")
    port = urlsplit(base).port
    if port is None:
        return base, f"{scheme}://{netloc}:{_PORTS.get(scheme.lower(), 80)}{slash}{path}"
    return f"{scheme}://{netloc.rpartition(':')[0]}{slash}{path}", base
