"""The options of a worker host."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.errors import UserError
from gateway.protocol import workers
from gateway.worker.call_server import WORKER_GRACE
from gateway.worker.credentials import Credentials

OPTIONS_FD_VARIABLE = "GATEWAY_WORKER_HOST_FD"
"""Environment variable: the number of a pipe that brings a host's options as JSON. They hold a key, which the
environment would show."""
FAILURE_FD_VARIABLE = "GATEWAY_WORKER_HOST_FAILURE_FD"
"""Environment variable with the number of a file descriptor for one line: why the host ends with status 2. Without it
that goes to stderr."""

PARENT_FD_VARIABLE = "GATEWAY_WORKER_HOST_PARENT_FD"
"""Environment variable with the number of a pipe that is at its end when the parent has died: no more new calls."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """One worker host: one bot, one service host, one machine."""

    target: str
    """The bot: `path/bot.py` or `package.module:function`."""
    service_host: str
    """The name under which its workers are offered, `agent.organization`."""
    gateways: tuple[str, ...] = ("ws://127.0.0.1:8080",)
    """Where to register: base URLs or full ones, ws, wss, http, https or unix. All of them, at the same time."""
    key: str = ""
    """Bearer key for worker hosts, as in the gateway's `[workers] keys`."""
    warm: int = 1
    """Workers kept ready beyond those that have a call."""
    max: int = 20
    """Sessions at once."""
    listen: str = ""
    """Address of the interface on which the workers listen, each on a port of its own; "": unix sockets, for a
    gateway on this machine that ends its hosts when it ends."""
    advertise: str = ""
    """The name or address, without scheme and port, by which gateways reach `listen`; "": the same."""
    run_dir: str = ""
    """Where the directory with the unix sockets is made (their paths are limited to some 100 bytes); "": a temporary
    directory."""
    host_id: str = ""
    """Name of this host among those of the service; "": a random one."""
    wrapup_seconds: float = 30.0
    """A worker may take this long to end after its call; then it is killed. A gateway that says otherwise is obeyed."""
    grace_seconds: float = WORKER_GRACE
    """Bots and the host itself wait this long for a gateway to come back."""

    python: str = ""
    """The interpreter of the bot's own environment, in which the gateway is installed too; "": ours."""
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    """What bots get that speak a carrier's own wire. Others get none of them."""

    def __post_init__(self) -> None:
        """Raises UserError, naming the field."""
        for name in ("target", "service_host"):
            if not getattr(self, name):
                raise UserError(f"worker host: {name} is missing")
        if len(self.service_host) > workers.MAX_SERVICE or not self.service_host.isprintable():
            raise UserError(f"worker host: service_host is not a name of at most {workers.MAX_SERVICE} characters")
        if self.host_id and not workers.NAME.fullmatch(self.host_id):
            raise UserError(f"worker host: host_id {self.host_id!r} is not of letters, digits, '.', '_' and '-'")
        if self.listen:
            check_advertised("advertise" if self.advertise else "listen", self.advertise or self.listen)
        if not self.gateways:
            raise UserError("worker host: no gateway to register with")
        if not 1 <= self.max <= workers.MAX_CAP:
            raise UserError(f"worker host: max is {self.max}, not between 1 and {workers.MAX_CAP}; start more hosts")
        if not 0 <= self.warm <= self.max:
            raise UserError(f"worker host: warm is {self.warm}, not between 0 and max ({self.max})")
        if self.listen in ("0.0.0.0", "::") and not self.advertise:  # noqa: S104  compared, not bound
            raise UserError(f"worker host: listening on {self.listen} needs advertise: the name gateways reach it by")
        for url in self.gateways:
            connect_url(url)

    @property
    def local(self) -> bool:
        """On the gateway's machine, and its property."""
        return not self.listen

    def to_json(self) -> bytes:
        """For the pipe of OPTIONS_FD_VARIABLE."""
        return orjson.dumps(asdict(self))

    @staticmethod
    def from_json(text: bytes | str) -> HostOptions:
        """Raises UserError for what is none."""
        try:
            values: Any = orjson.loads(text)
        except orjson.JSONDecodeError as e:
            raise UserError(f"worker host: the options are not JSON: {e}") from None
        known = {f.name for f in fields(HostOptions)}
        if not isinstance(values, dict) or not {"target", "service_host"} <= set(values) <= known:
            raise UserError("worker host: the options are an object with target, service_host and known fields")
        if isinstance(values.get("gateways"), list):
            values["gateways"] = tuple(map(str, values["gateways"]))
        try:
            values["credentials"] = tuple(Credentials(**each) for each in values.get("credentials", ()))
        except TypeError:
            raise UserError("worker host: credentials are a list of objects: carrier, account, variables") from None
        return HostOptions(**values)

    @staticmethod
    def from_environment() -> HostOptions:
        """Read the options that our parent has left for us.

        Raises UserError if there are none.
        """
        number = os.environ.pop(OPTIONS_FD_VARIABLE, "")
        if not number.isdigit():
            raise UserError(f"worker host: no options in {OPTIONS_FD_VARIABLE}")
        try:
            with os.fdopen(int(number), "rb") as file:
                return HostOptions.from_json(file.read())
        except OSError as e:
            raise UserError(f"worker host: no options in {OPTIONS_FD_VARIABLE}: {e.strerror or e}") from None


def worker_url(host: str, port: int) -> str:
    """The URL of a worker on TCP. host: a name, or an address of either kind."""
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}/ws"


def check_advertised(option: str, host: str) -> None:
    """Raise UserError for what is no host of a URL: gateways send our link key to what is advertised."""
    try:
        parts = urlsplit(worker_url(host, 65535))
        good = parts.hostname is not None and parts.port == 65535 and parts.path == "/ws" and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not workers.WORKER_URL.fullmatch(worker_url(host, 65535)):
        raise UserError(
            f"worker host: {option} is {host!r}, not a host's name or address alone, without scheme or port"
        )


def connect_url(url: str) -> str:
    """Make the WebSocket URL at which a gateway takes worker hosts.

    Raises UserError for what is no gateway's URL.
    """
    if url.startswith("unix:"):
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only when it is asked for
    except ValueError as e:  # half a bracket, a port that is no number
        raise UserError(f"{url}: not the URL of a gateway: {e}") from None
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise UserError(f"{url}: not the URL of a gateway; it begins with ws://, wss://, http:// or https://")
    path = parts.path.rstrip("/")
    if not path.endswith(workers.PATH):
        path += workers.PATH
    return f"{scheme}://{parts.netloc}{path}"
