"""Acme as a client, for `gateway call --carrier acme`."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gateway.simulator.account import Account
from gateway.simulator.call import Call, Simulator
from gateway.simulator.carrier import (
    Clear,
    Fields,
    Mark,
    Outgoing,
    Play,
    Request,
    SimulatedCarrier,
    StreamSpec,
    Wire,
    compact,
    decoded,
)
from gateway.simulator.outcome import Failed, Refused
from gateway.simulator.plan import CallPlan
from gateway.simulator.voice import Encoding

ALAW = Encoding("PCMA", 8000)


@dataclass(frozen=True, slots=True)
class AcmeAccount(Account):
    env: ClassVar[Mapping[str, str]] = {"account_id": "ACME_ACCOUNT", "secret": "ACME_SECRET"}
    account_id: str = "acme-account"
    secret: str = field(default="acme-secret", repr=False)


class SimulatedAcme(SimulatedCarrier):
    name: ClassVar[str] = "acme"
    account_type = AcmeAccount
    account: AcmeAccount
    signing: AcmeAccount | None

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.call_id = f"acme-{secrets.token_hex(8)}"

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        return Request(method, url, [*self._fields("talking" if answered else "ringing"), *(more or [])])

    def _fields(self, state: str) -> Fields:
        return [("call", self.call_id), ("from", self.from_number), ("to", self.to_number), ("state", state)]

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        if self.signing is None:
            return {}
        return {
            "X-Acme-Signature": hmac.digest(
                self.signing.secret.encode(), request.full_url.encode() + body, "sha256"
            ).hex()
        }

    def ended(self, outcome: str, seconds: int) -> list[Request]:
        return [Request("POST", self.status_url, self._fields("over"))]

    def open_stream(self, spec: StreamSpec) -> Wire:
        return AcmeWire(self, spec)


class AcmeWire(Wire):
    def __init__(self, carrier: SimulatedAcme, spec: StreamSpec) -> None:
        super().__init__(carrier, spec, ALAW, ALAW)
        self.stream_id = f"stream-{secrets.token_hex(4)}"

    def start(self) -> str:
        start = {"acmeCall": self.carrier.call_id, "acmeStream": self.stream_id, "account": self.carrier.account_id}
        numbers = {"from": self.carrier.from_number, "to": self.carrier.to_number}
        return compact({"event": "start", "start": {**start, **numbers, "parameters": dict(self.spec.parameters)}})

    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes:
        return b'{"event":"media","media":{"track":"inbound","chunk":%d,"payload":"%b"}}' % (chunk, payload)

    def dtmf(self, digit: str) -> str:
        return compact({"event": "dtmf", "dtmf": {"digit": digit}})

    def mark(self, name: str) -> str:
        return compact({"event": "mark", "name": name})

    def stop(self, reason: str) -> str:
        return compact({"event": "stop", "reason": reason})

    def _read(self, message: dict[str, Any]) -> Outgoing:
        match message:
            case {"event": "media", "media": {"payload": str(payload)}} if (audio := decoded(payload)) is not None:
                return Play(audio)
            case {"event": "clear"}:
                return Clear()
            case {"event": "mark", "name": str(name)}:
                return Mark(name)
        return self._malformed(f"{message}")


async def flow(call: Call) -> None:
    """Do what each answer says, until one hangs up. Raises HungUp, Refused, Failed."""
    url = call.carrier.voice_url
    while True:
        answer = await call.fetch(call.carrier.instructions(url, "POST", answered=call.answered))
        if answer.status != 200:
            raise Failed(f"the gateway answered {answer.status}")
        told = json.loads(answer.text)
        if "reject" in told:
            raise Refused(told["reject"])
        if "stream" not in told:
            return
        await call.stream(StreamSpec(told["stream"], {}, told["parameters"]))
        url = told["then"]


SIMULATOR = Simulator(SimulatedAcme, flow)
