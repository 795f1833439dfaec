"""Settings: one TOML file, any key overridden from the environment, every mistake one line that names it.

Nothing below `gateway.serve.app` imports this: parts take small frozen values, never the settings.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.carriers import CARRIERS
from gateway.carriers.config import CarrierConfig
from gateway.carriers.secrets import Secrets
from gateway.errors import SettingsError
from gateway.node.services import Fallback, Service
from gateway.protocol.workers import MAX_CAP
from gateway.secrecy import INSPECTABLE_VARIABLE
from serializers.base import MediaFormat
from serializers.numbers import e164_of_digits

PREFIX = "GATEWAY_"
KUBERNETES = re.compile(r"GATEWAY_(SERVICE|PORT)(_(?!_)|$)")
"""What Kubernetes puts into the environment where a Service is called "gateway": GATEWAY_PORT, GATEWAY_SERVICE_HOST."""
CONFIG_VARIABLE = "GATEWAY_CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "GATEWAY_WORKER_KEY", INSPECTABLE_VARIABLE})
"""Variables of ours that are no settings; the second is for `gateway worker`."""
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEV_SERVICE = "echo"

STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = STRICT


def _split(url: str) -> SplitResult:
    """urlsplit, which looks at the port only when asked, and whose words of a bad address would show it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("url", "is no URL, or its port is none") from None
    return parts


class ServerSettings(Section):
    """`[server]`."""

    drain_seconds: float = Field(300.0, ge=0)
    ops_bind: str = "127.0.0.1:9090"
    overload_lag_ms: int = Field(100, ge=20, le=1000)

    @field_validator("ops_bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        if value and not re.fullmatch(r".+:\d{1,5}", value):
            raise PydanticCustomError("bind", 'must be "host:port", or "" for none')
        return value


class KeySettings(Section):
    """`[api]` and `[workers]`: bearer keys."""

    keys: Secrets = ()


class DialoutSettings(Section):
    """`[dialout]`: closed until `allow` is set."""

    allow: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    cps: float = Field(1.0, gt=0)
    max_concurrent: int = Field(20, gt=0)


def _as_fallback(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    kind, _, to = value.partition(":")
    if kind == "forward" and not re.fullmatch(r"\+[1-9]\d{6,14}", to):
        raise PydanticCustomError("forward", 'must name a number in E.164: "forward:+15550123"')
    if kind not in ("hold", "busy", "message", "forward") or (to and kind != "forward"):
        raise PydanticCustomError("fallback", 'must be "hold", "busy", "message" or "forward:+15550123"')
    return Fallback(kind, to)  # type: ignore[arg-type]  # checked two lines above


FallbackField = Annotated[Fallback, BeforeValidator(_as_fallback)]


NO_RELAY = 'is served by "pcm" only, with "relay" its callers hear nothing: run it yourself and list its URL in workers'


class ServiceSettings(Section):
    """One `[[services]]`."""

    host: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    default: bool = False
    numbers: tuple[str, ...] = ()
    bot: str = ""
    workers: tuple[str, ...] = ()
    link_key: Secrets = ()
    protocol: Literal["pcm", "relay"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000, 48000] = 16000
    codec: Literal["mulaw", "alaw", "l16", "l16/8000", "l16/16000", "l16/24000"] = "mulaw"
    min_warm: int = Field(2, ge=0)
    max: int = Field(20, gt=0, le=MAX_CAP)
    when_full: FallbackField = Fallback("hold")
    when_down: FallbackField = Fallback("busy")
    max_hold_seconds: float = Field(30.0, ge=0)
    max_call_seconds: float = Field(7200.0, gt=0)
    wrapup_seconds: float = Field(30.0, ge=0)
    rest_seconds: float = Field(5.0, ge=0)
    after_bot: Literal["hangup", "park"] = "hangup"
    playout_lead_ms: int = Field(200, ge=20, le=5000)
    quiet_seconds: float = Field(10.0, gt=0)
    hung_worker_seconds: float = Field(10.0, gt=2)
    hold_audio: str = ""
    record: str = ""

    @field_validator("when_full")
    @classmethod
    def _full(cls, value: Fallback) -> Fallback:
        if value.kind == "message":
            raise PydanticCustomError("when_full", 'must be "hold", "busy" or "forward:+15550123"')
        return value

    @field_validator("when_down")
    @classmethod
    def _down(cls, value: Fallback) -> Fallback:
        if value.kind == "hold":
            raise PydanticCustomError("when_down", 'must be "busy", "message" or "forward:+15550123": nobody can hold')
        return value

    @field_validator("workers")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if _split(url).scheme not in ("ws", "wss"):
                raise PydanticCustomError("worker_url", "must be ws:// or wss:// URLs")
        return urls

    @model_validator(mode="after")
    def _warm_fits(self) -> ServiceSettings:
        if self.min_warm > self.max:
            raise PydanticCustomError("min_warm", "min_warm is more than max: no host keeps more workers than that")
        return self

    @model_validator(mode="after")
    def _bot_speaks_pcm(self) -> ServiceSettings:
        if self.bot and self.protocol == "relay":
            raise PydanticCustomError("relay_bot", f"bot: {NO_RELAY}")
        return self

    def with_bot(self, bot: str) -> ServiceSettings:
        """The same with the bot of `--bot`. Raises SettingsError if it cannot have one."""
        if self.protocol == "relay":
            raise SettingsError("--bot", NO_RELAY)
        return self.model_copy(update={"bot": bot})

    def service(self) -> Service:
        """The part of it that the conductor goes by."""
        encoding, _, rate = self.codec.partition("/")
        default_rate = 16000 if encoding == "l16" else 8000
        return Service(
            host=self.host,
            default=self.default,
            numbers=tuple(e164_of_digits(number) for number in self.numbers),
            protocol=self.protocol,
            sample_rate=self.sample_rate,
            media=MediaFormat(encoding, int(rate or default_rate)),
            when_full=self.when_full,
            when_down=self.when_down,
            max_hold=self.max_hold_seconds,
            max_call=self.max_call_seconds,
            wrapup=self.wrapup_seconds,
            rest=self.rest_seconds,
            after_bot=self.after_bot,
            playout_lead=self.playout_lead_ms / 1000,
            stream_quiet=self.quiet_seconds,
            link_dead=self.hung_worker_seconds,
            record=self.record,
        )


class Settings(Section):
    """The whole file."""

    public_url: str = ""
    registry: str = Field("memory", repr=False)  # such URLs may hold a password
    secret: Secrets = ()
    records: str = Field("", repr=False)
    server: ServerSettings = ServerSettings()
    api: KeySettings = KeySettings()
    workers: KeySettings = KeySettings()
    dialout: DialoutSettings = DialoutSettings()
    carriers: dict[str, Any] = {}
    services: tuple[ServiceSettings, ...] = ()

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        if not value:
            return value
        url = _split(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise PydanticCustomError("public_url", 'must be like "https://voice.example.com", a path is allowed')
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise PydanticCustomError("public_url", "must be https: carriers stream over wss only (http on loopback)")
        return value.rstrip("/")

    @field_validator("registry")
    @classmethod
    def _registry(cls, value: str) -> str:
        if value != "memory" and _split(value).scheme not in ("redis", "rediss", "unix"):
            raise PydanticCustomError("registry", 'must be "memory" or like "redis://host:6379/0"')
        return value

    @model_validator(mode="after")
    def _services(self) -> Settings:
        hosts = [service.host for service in self.services]
        for host in hosts:
            if hosts.count(host) > 1:
                raise PydanticCustomError("host_twice", "services: the host {host} is there twice", {"host": host})
        if sum(service.default for service in self.services) > 1:
            raise PydanticCustomError("default_twice", "services: only one can be the default")
        if self.registry != "memory" and not self.secret:
            raise PydanticCustomError("secret", "secret: is needed with a shared registry, the same on all nodes")
        return self

    def carrier(self, name: str) -> CarrierConfig[Any] | None:
        """The parsed `[carriers.<name>]`, or None where there is none."""
        config: CarrierConfig[Any] | None = self.carriers.get(name)
        return config


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1, localhost."""
    return host in ("localhost", "::1") or host.startswith("127.")


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this file (or GATEWAY_CONFIG's, or none) under this environment. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    path = path or environ.get(CONFIG_VARIABLE)
    tree = _read(Path(path)) if path else {}
    _merge_environment(tree, environ)
    sections = _with_known_names(tree.get("carriers", {}), environ)
    tree["carriers"] = {name: _carrier(name, section) for name, section in sections.items()}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise _as_settings_error("", error) from None


def configured(path: str | None, environ: Mapping[str, str] | None = None) -> bool:
    """Has anybody configured anything at all?"""
    environ = os.environ if environ is None else environ
    if path or environ.get(CONFIG_VARIABLE):
        return True
    known = {name for entry in CARRIERS.values() for name in entry.env}
    return any(name in known or (name.startswith(PREFIX) and name not in OTHER_VARIABLES) for name in environ)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError("--config", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("--config", f"{path} is not TOML: {error}") from None


def _merge_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """`GATEWAY_SERVER__DRAIN_SECONDS=10` sets server.drain_seconds. Values may be JSON; what is none is a string."""
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or KUBERNETES.match(name) or not text:
            continue
        *parents, key = name.removeprefix(PREFIX).lower().split("__")
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise SettingsError(name, f"{parent} is not a table, so nothing in it can be set")
        section[key] = _value(text)


def _value(text: str) -> Any:
    if text[:1] in ("[", "{", '"'):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _with_known_names(carriers: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """The carriers' sections, filled from the names that their users already have; all of them make a section."""
    if not isinstance(carriers, Mapping):
        raise SettingsError("carriers", "must be tables: [carriers.twilio] and so on")
    sections = dict(carriers)
    for name in sections:
        if name not in CARRIERS:
            raise SettingsError(f"carriers.{name}", f"there is no such carrier; there are {', '.join(CARRIERS)}")
    for name, entry in CARRIERS.items():
        found = {key: environ[variable] for variable, key in entry.env.items() if environ.get(variable)}
        section = sections.get(name)
        if section is None and found and len(found) == len(entry.env):
            sections[name] = found
        elif isinstance(section, Mapping) and "accounts" not in section:
            sections[name] = {**found, **section}
    return sections


def _carrier(name: str, section: Any) -> CarrierConfig[Any]:
    try:
        config: CarrierConfig[Any] = CARRIERS[name].config.model_validate(section)
        return config
    except ValidationError as error:
        raise _as_settings_error(f"carriers.{name}", error) from None


def _as_settings_error(prefix: str, error: ValidationError) -> SettingsError:
    """The first mistake, with its dotted name. The value is never shown: it may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join([prefix] * bool(prefix) + [str(part) for part in first["loc"]]) or "settings"
    messages = {"extra_forbidden": "there is no such setting", "missing": "is missing"}
    return SettingsError(place, messages.get(first["type"], first["msg"]))
