"""`[[events]]`: which of the user's own systems are told what happens to calls."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from gateway.carriers.secrets import Secrets
from gateway.outbox.endpoint import Endpoint
from gateway.outbox.signing import secret_bytes
from gateway.records.events import EventType
from gateway.settings_sections import Section, is_loopback, split_url


def _for_signatures(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in secrets:
        try:
            secret_bytes(secret.get_secret_value())
        except ValueError:
            raise PydanticCustomError(
                "whsec", 'must be "whsec_" and base64: echo "whsec_$(openssl rand -base64 32)" makes one'
            ) from None
    return secrets


class EventsSettings(Section):
    """One `[[events]]`: an endpoint. types: none named = all."""

    url: str = Field(repr=False)  # such URLs may hold a password
    secret: Annotated[Secrets, AfterValidator(_for_signatures)]
    types: tuple[EventType, ...] = ()

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        url = split_url(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.fragment or not value.isprintable():
            raise PydanticCustomError("events_url", 'must be like "https://crm.example.com/hooks/calls"')
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise PydanticCustomError("events_url", "must be https: events hold telephone numbers (http on loopback)")
        return value

    def endpoint(self) -> Endpoint:
        """The endpoint as the outbox goes by it."""
        return Endpoint.of(self.url, [secret.get_secret_value() for secret in self.secret], self.types)
