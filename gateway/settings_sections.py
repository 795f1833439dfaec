"""The sections of the settings that are tables of their own: `[server]`, `[api]`, `[workers]`, `[dialout]`."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from gateway.api.keys import SCOPES, ApiKey, Scope
from gateway.carriers.secrets import Secrets, listed

STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = STRICT


def split_url(url: str) -> SplitResult:
    """urlsplit, which looks at the port only when asked, and whose words of a bad address would show it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("url", "is no URL, or its port is none") from None
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a name or address can mean this machine only.

    That is loopback, and `localhost` with what is below it (RFC 6761, section 6.3).
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def of_list(place: int, what: str) -> str:
    """Say that one of a list is not what it must be. It is called by its place, as its value is never shown."""
    return f"number {place} of the list is no {what}"


class ServerSettings(Section):
    """`[server]`."""

    drain_seconds: float = Field(300.0, ge=0)
    ops_bind: str = "127.0.0.1:9090"
    overload_lag_ms: int = Field(100, ge=20, le=1000)
    keep_alive_seconds: float = Field(620.0, ge=1, le=4000)

    @field_validator("ops_bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        if value and not re.fullmatch(r".+:\d{1,5}", value):
            raise PydanticCustomError("bind", 'must be "host:port", or "" for none')
        return value


class ApiKeySettings(Section):
    """One of `[api] keys`."""

    key: Secrets
    name: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    scopes: tuple[Scope, ...]

    @field_validator("scopes")
    @classmethod
    def _some(cls, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        if not scopes:
            raise PydanticCustomError("scopes", "must name one at least: " + ", ".join(SCOPES))
        return scopes


def _as_api_keys(value: Any) -> Any:
    """Read strings and tables, mixed: a string is a key with all scopes. Those without a name are called by place."""
    values = [value] if isinstance(value, str | SecretStr | dict) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str | SecretStr | dict) for one in values):
        raise PydanticCustomError("api_keys", 'must be a list of keys, or of tables: [{ key = "…", scopes = ["…"] }]')
    tables = (one if isinstance(one, dict) else {"key": listed(one), "scopes": SCOPES} for one in values)
    return tuple({"name": f"key-{place}", **table} for place, table in enumerate(tables, 1))


class ApiSettings(Section):
    """`[api]`: bearer keys, each with a name and what it may do."""

    keys: Annotated[tuple[ApiKeySettings, ...], BeforeValidator(_as_api_keys)] = ()

    def api_keys(self) -> tuple[ApiKey, ...]:
        """The keys as the API goes by them."""
        return tuple(ApiKey(each.name, frozenset(each.scopes), each.key) for each in self.keys)


def _as_networks(value: Any) -> Any:
    listed = [value] if isinstance(value, str) else value
    try:
        return tuple(ip_network(one.strip()) for one in listed)
    except (TypeError, AttributeError, ValueError):  # ValueError: also for bits beyond the prefix, as in 10.0.0.7/8
        raise PydanticCustomError(
            "networks", 'must be a list of networks or addresses: ["10.20.0.0/16", "fd00::/8", "192.0.2.7"]'
        ) from None


class WorkersSettings(Section):
    """`[workers]`: bearer keys of worker hosts, and where their workers may be."""

    keys: Secrets = ()
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_as_networks)] = ()


class DialoutSettings(Section):
    """`[dialout]`: closed until `allow` is set."""

    allow: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    cps: float = Field(1.0, gt=0)
    max_concurrent: int = Field(20, gt=0)

    @field_validator("allow")
    @classmethod
    def _allow(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for place, rule in enumerate(rules, 1):
            if not re.fullmatch(r"\+[1-9]\d{0,14}|[A-Z]{2}", rule, re.ASCII):
                raise PydanticCustomError("allow", of_list(place, 'prefix or region: write "+1", "+4420" or "GB"'))
        return rules

    @field_validator("callers")
    @classmethod
    def _callers(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        for place, number in enumerate(numbers, 1):
            if not re.fullmatch(r"\+[1-9]\d{6,14}", number, re.ASCII):
                raise PydanticCustomError("callers", of_list(place, 'number in E.164: write it like "+15550100"'))
        return numbers
