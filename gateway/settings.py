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

import orjson
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.carriers import CARRIERS
from gateway.carriers.config import CarrierConfig
from gateway.carriers.secrets import BearerKeys, Secrets
from gateway.errors import SettingsError, SettingsErrors
from gateway.node.services import Fallback, Service
from gateway.protocol.workers import MAX_CAP
from gateway.secrecy import INSPECTABLE_VARIABLE
from gateway.settings_errors import HOST, mistakes
from gateway.settings_events import EventsSettings
from gateway.settings_records import RecordsUrl, placed
from gateway.settings_sections import (
    ApiSettings,
    DialoutSettings,
    Section,
    ServerSettings,
    WorkersSettings,
    of_list,
    split_url,
)
from gateway.settings_sections import (
    is_loopback as is_loopback,
)
from serializers.base import MediaFormat
from serializers.numbers import e164_of_digits

PREFIX = "GATEWAY_"
KUBERNETES = re.compile(r"GATEWAY_(SERVICE|PORT)(_(?!_)|$)")
"""What Kubernetes puts into the environment where a Service is called "gateway": GATEWAY_PORT, GATEWAY_SERVICE_HOST."""
CONFIG_VARIABLE = "GATEWAY_CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "GATEWAY_WORKER_KEY", "GATEWAY_API_KEY", INSPECTABLE_VARIABLE})
"""Variables of ours that are no settings; the second is for `gateway worker`, the third for `gateway dial`."""
DEV_SERVICE = "echo"


def _as_fallback(value: Any) -> Any:
    if isinstance(value, Fallback):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("fallback", 'must be "hold", "busy", "message" or "forward:+15550123"')
    kind, _, to = value.partition(":")
    if kind == "forward" and not re.fullmatch(r"\+[1-9]\d{6,14}", to):
        raise PydanticCustomError("forward", 'must name a number in E.164: "forward:+15550123"')
    if kind not in ("hold", "busy", "message", "forward") or (to and kind != "forward"):
        raise PydanticCustomError("fallback", 'must be "hold", "busy", "message" or "forward:+15550123"')
    return Fallback(kind, to)  # type: ignore[arg-type]  # checked two lines above


FallbackField = Annotated[Fallback, BeforeValidator(_as_fallback)]


NO_RELAYED_L16 = (
    '"{}" is noise to the serializers of Pipecat, which a bot with protocol "relay" has: set codec = "mulaw", or '
    'protocol = "pcm"'
)
NO_RELAYED_AUDIO = 'is possible with protocol "pcm" only: with "relay" the carrier\'s messages pass through unread'


class ServiceSettings(Section):
    """One `[[services]]`."""

    host: str = Field(pattern=f"^{HOST.pattern}$")
    default: bool = False
    numbers: tuple[str, ...] = ()
    bot: str = ""
    python: str = ""
    workers: tuple[str, ...] = ()
    slots: int = Field(1, gt=0, le=MAX_CAP)
    link_key: BearerKeys = ()
    protocol: Literal["pcm", "relay"] | None = None
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
    recordings: str = ""
    recording_format: Literal["flac", "wav"] = "flac"
    announcement: str = ""

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

    @field_validator("numbers")
    @classmethod
    def _numbers(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        for place, number in enumerate(numbers, 1):
            # As carriers write them: E.164, a short code, national digits, and names of SIP and of SDKs.
            read = e164_of_digits(number)
            if not re.fullmatch(r"\+[1-9]\d{6,14}|\d{3,15}|(sips?|client):.+", read, re.ASCII):
                raise PydanticCustomError("numbers", of_list(place, 'telephone number: write it like "+15550123"'))
        return numbers

    @field_validator("workers")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if split_url(url).scheme not in ("ws", "wss"):
                raise PydanticCustomError("worker_url", "must be ws:// or wss:// URLs")
        return urls

    @model_validator(mode="after")
    def _warm_fits(self) -> ServiceSettings:
        if self.min_warm > self.max:
            raise PydanticCustomError("min_warm", "min_warm is more than max: no host keeps more workers than that")
        return self

    @model_validator(mode="after")
    def _recorded_by_pcm(self) -> ServiceSettings:
        for name in ("recordings", "announcement"):
            if getattr(self, name) and self.protocol == "relay":
                raise PydanticCustomError("relay_audio", name + ": {why}", {"why": NO_RELAYED_AUDIO})
        return self

    @model_validator(mode="after")
    def _relayed_codec(self) -> ServiceSettings:
        if self.protocol == "relay" and self.codec.startswith("l16"):
            raise PydanticCustomError("relay_codec", "codec: {why}", {"why": NO_RELAYED_L16.format(self.codec)})
        return self

    def with_bot(self, bot: str) -> ServiceSettings:
        """The same with the bot of `--bot`."""
        return self.model_copy(update={"bot": bot})

    def key_of_bot(self, wrong: str) -> str:
        """Which setting is to be mended, by what a worker host says of it: the bot, or its interpreter."""
        python = self.python and wrong.startswith(f"{self.python}: ")
        return f"services.{self.host}.{'python' if python else 'bot'}"

    def service(self) -> Service:
        """What calls are treated by: the part of it that a node has."""
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
            slots=self.slots,
            rest=self.rest_seconds,
            after_bot=self.after_bot,
            playout_lead=self.playout_lead_ms / 1000,
            stream_quiet=self.quiet_seconds,
            link_dead=self.hung_worker_seconds,
            record=self.record,
            recordings=self.recordings,
            recording_format=self.recording_format,
        )


class Settings(Section):
    """The whole file."""

    public_url: str = ""
    registry: str = Field("memory", repr=False)  # such URLs may hold a password
    secret: Secrets = ()
    records: RecordsUrl = ""
    retention_days: float = Field(90.0, ge=0)
    server: ServerSettings = ServerSettings()
    api: ApiSettings = ApiSettings()
    workers: WorkersSettings = WorkersSettings()
    dialout: DialoutSettings = DialoutSettings()
    carriers: dict[str, Any] = Field(default_factory=dict)
    events: tuple[EventsSettings, ...] = ()
    services: tuple[ServiceSettings, ...] = ()

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        if not value:
            return value
        url = split_url(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise PydanticCustomError("public_url", 'must be like "https://voice.example.com", a path is allowed')
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise PydanticCustomError("public_url", "must be https: carriers stream over wss only (http on loopback)")
        return value.rstrip("/")

    @field_validator("registry")
    @classmethod
    def _registry(cls, value: str) -> str:
        if value != "memory" and split_url(value).scheme not in ("redis", "rediss", "unix"):
            raise PydanticCustomError("registry", 'must be "memory" or like "redis://host:6379/0"')
        return value

    @field_validator("events")
    @classmethod
    def _events(cls, endpoints: tuple[EventsSettings, ...]) -> tuple[EventsSettings, ...]:
        urls = [endpoint.url for endpoint in endpoints]
        if len(set(urls)) < len(urls):
            raise PydanticCustomError("url_twice", "one URL is there twice: name all its types in one [[events]]")
        return endpoints

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


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this file (or GATEWAY_CONFIG's, or none) under this environment. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    path = path or environ.get(CONFIG_VARIABLE)
    tree = _read(Path(path)) if path else {}
    _merge_environment(tree, environ)
    tree["records"] = placed(tree.get("records"), Path(path) if path else None, environ)
    wrong: list[SettingsError] = []
    tree["carriers"] = _carriers(tree.get("carriers", {}), environ, wrong)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        wrong = [*mistakes(error, Settings, tree), *wrong]
    if wrong:
        raise wrong[0] if len(wrong) == 1 else SettingsErrors(wrong)
    return settings


def configured(path: str | None, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether there is any configuration at all."""
    environ = os.environ if environ is None else environ
    if path or environ.get(CONFIG_VARIABLE):
        return True
    of_carriers = {name for entry in CARRIERS.values() for name in entry.env}
    return any(_is_setting(name, text) or (name in of_carriers and text) for name, text in environ.items())


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError("--config", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("--config", f"{path} is not TOML: {error}") from None


def _is_setting(name: str, text: str) -> bool:
    """True if this variable sets a setting; an empty one sets nothing."""
    ours = name.startswith(PREFIX) and name not in OTHER_VARIABLES and not KUBERNETES.match(name)
    return ours and bool(text)


def _merge_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """`GATEWAY_SERVER__DRAIN_SECONDS=10` sets server.drain_seconds. Values may be JSON; what is none is a string."""
    for name, text in environ.items():
        if not _is_setting(name, text):
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


def _carriers(tables: Any, environ: Mapping[str, str], wrong: list[SettingsError]) -> dict[str, CarrierConfig[Any]]:
    """Parse the carriers' tables. What is wrong with one is added to `wrong`, and the carrier left out."""
    if not isinstance(tables, Mapping):
        wrong.append(SettingsError("carriers", "must be tables: [carriers.twilio] and so on"))
        return {}
    carriers: dict[str, CarrierConfig[Any]] = {}
    for name, section in _with_known_names(tables, environ).items():
        if name not in CARRIERS:
            wrong.append(
                SettingsError(f"carriers.{name}", f"there is no such carrier; there are {', '.join(CARRIERS)}")
            )
            continue
        config = CARRIERS[name].config
        try:
            carriers[name] = config.model_validate(section)
        except ValidationError as error:
            wrong += mistakes(error, config, section if isinstance(section, Mapping) else {}, ("carriers", name))
    return carriers


def _with_known_names(tables: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The carriers' sections, filled from the names that their users already have; all of them make a section."""
    sections = dict(tables)
    for name, entry in CARRIERS.items():
        found = {key: environ[variable] for variable, key in entry.env.items() if environ.get(variable)}
        section = sections.get(name)
        if section is None and found and len(found) == len(entry.env):
            sections[name] = found
        elif isinstance(section, Mapping) and "accounts" not in section:
            sections[name] = {**found, **section}
    return sections
