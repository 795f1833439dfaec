"""Acme's webhooks: a form, signed by HMAC over URL and body; answered by JSON."""

from __future__ import annotations

import hmac
from typing import Any, ClassVar

import orjson
from acme_carrier.wire import AcmeSerializer
from pydantic import Field

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, StreamAnswer, Verified, Webhook
from gateway.carriers.config import AccountConfig, CarrierConfig
from gateway.carriers.form import WebhookSchema, parse_request, readable, wire
from gateway.carriers.secrets import Secrets, same
from gateway.carriers.url import signed_url
from serializers.base import MediaFormat, Serializer
from serializers.numbers import e164

SCHEMA = WebhookSchema(
    core=frozenset({"call", "from", "to", "state"}),
    call_id=("call",),
    ids=AcmeSerializer.ids,
    known=frozenset({"dial"}),
)


class Account(AccountConfig):
    account_id: str = Field(min_length=1)
    secret: Secrets

    @property
    def id(self) -> str:
        return self.account_id


class Config(CarrierConfig[Account]):
    """`[carriers.acme]`."""


class AcmeCarrier(Carrier):
    name: ClassVar[str] = "acme"
    serializer: ClassVar[type[Serializer]] = AcmeSerializer

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        if self.unauthenticated:
            return Verified()
        signed = wire(signed_url(self.public_url, request)) + request.body
        for account in self.config.accounts:
            for secret in account.secret:
                made = hmac.digest(secret.get_secret_value().encode(), signed, "sha256").hex()
                if same(made, request.headers.get("x-acme-signature", "")):
                    return Verified(account.id)
        return Refused("bad_signature")

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        parsed = parse_request(request, SCHEMA)
        if isinstance(parsed, Refused):
            return parsed
        if not parsed.call_id:
            return Refused("no_call_id")
        fields = parsed.fields
        state = {"ringing": "ringing", "talking": "answered", "over": "ended"}.get(fields.one("state"), "")
        return Webhook(
            kind=Kind.STATUS if state == "ended" else Kind.VOICE,
            call_id=parsed.call_id,
            from_number=e164(fields.one("from"), self.region),
            to_number=e164(fields.one("to"), self.region),
            raw_from=fields.one("from"),
            raw_to=fields.one("to"),
            status=state,
            own=parsed.own,
            custom_params=parsed.custom_params,
        )

    def negotiate(self, wanted: MediaFormat) -> MediaFormat:
        return AcmeSerializer.default_format

    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        parameters = {readable(name): readable(value) for name, value in answer.parameters}
        return _told(stream=answer.url, parameters=parameters, then=answer.resume_url)

    def answer_reject(self, reason: str) -> HttpAnswer:
        return _told(reject=reason)

    def answer_hangup(self) -> HttpAnswer:
        return _told(hangup=True)

    def answer_dial(self, to: str, *, caller: str, action_url: str) -> HttpAnswer:
        return _told(dial=readable(to), caller=readable(caller), then=action_url)

    def answer_digits(self, digits: str, *, resume_url: str) -> HttpAnswer:
        return _told(digits=digits, then=resume_url)

    def answer_park(self) -> HttpAnswer:
        return _told(park=True)

    def answer_empty(self) -> HttpAnswer:
        return _told()


def _told(**instruction: Any) -> HttpAnswer:
    return HttpAnswer(orjson.dumps(instruction), "application/json")
