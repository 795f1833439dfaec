"""One call to be dialled, whether its turn came at once or it has waited in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from gateway.carriers.orders import CallOrder, MachineDetection
from gateway.carriers.parameters import OwnParameters
from gateway.dialout.guards import Checked
from gateway.node.node import Node
from gateway.node.tokens import StreamToken
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import Claim
from gateway.sessions.duration_limit import LAST_WORDS


@dataclass(frozen=True, slots=True)
class Job:
    """What is needed to dial. max_seconds: 0 for the service's. key_name: of the API key, for the log."""

    session: str
    carrier: str
    account: str
    service: str
    to: str = field(repr=False)
    from_number: str = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    max_seconds: int
    machine_detection: MachineDetection
    key_name: str

    @classmethod
    def of_request(cls, session: str, checked: Checked) -> Job:
        """Make the job of a request."""
        request = checked.request
        return cls(
            session=session,
            carrier=request.carrier,
            account=checked.account,
            service=checked.service.host,
            to=request.to,
            from_number=request.from_number,
            body=request.body,
            max_seconds=request.max_call_seconds,
            machine_detection=request.machine_detection,
            key_name=request.key_name,
        )

    @classmethod
    def of_facts(cls, facts: Facts, dial_options: Mapping[str, Any]) -> Job:
        """Make it again of what the registry keeps. dial_options: see the method."""
        machine = dial_options.get("machine", "off")
        return cls(
            session=facts.session,
            carrier=facts.carrier,
            account=facts.account,
            service=facts.service,
            to=facts.to_number,
            from_number=facts.from_number,
            body=facts.body,
            max_seconds=facts.max_seconds,
            machine_detection=cast(MachineDetection, machine) if machine in get_args(MachineDetection) else "off",
            key_name=str(dial_options.get("key", "")),
        )

    def dial_options(self) -> dict[str, Any]:
        """Return what the queue keeps of it; all else is in the facts."""
        return {"machine": self.machine_detection, "key": self.key_name}

    def facts(self, now: float) -> FactEvent:
        """Return what is known of the call before it is placed. now: unix time."""
        return FactEvent(
            carrier=self.carrier,
            account=self.account,
            service=self.service,
            direction="outbound",
            from_number=self.from_number,
            to_number=self.to,
            raw_from=self.from_number,
            raw_to=self.to,
            body=self.body,
            max_seconds=self.max_seconds,
            status="queued",
            created=now,
        )

    def order(self, node: Node, claim: Claim, *, ring: int, valid: float) -> CallOrder:
        """Make the order for the carrier. ring: seconds. valid: for so long the stream's URL is good, seconds."""
        service = node.services.get(self.service)
        longest = self.max_seconds or (service.max_call if service is not None else 0.0)
        # The claim is confirmed already; its next attempt is that of the stream.
        expires = int((node.unix_time() + valid) * 1000) / 1000
        token = StreamToken(self.session, self.carrier, self.service, claim.attempt + 1, expires)
        return CallOrder(
            session=self.session,
            to=self.to,
            from_number=self.from_number,
            answer_url=self._url(node, "voice"),
            status_url=self._url(node, "status"),
            stream_url=f"{node.public_ws}/ws/{self.carrier}/{node.signer.token(token)}",
            machine_detection=self.machine_detection,
            ring_seconds=ring,
            max_seconds=round(longest + LAST_WORDS) + 1,  # behind our own limit: the bot's last words are heard
        )

    def _url(self, node: Node, route: Literal["voice", "status"]) -> str:
        """Return the URL of a webhook that finds the session, before the carrier has told the call's id."""
        said = OwnParameters(session=self.session, mac=node.signer.call_mac(self.session, self.carrier))
        url = node.url(f"/webhooks/{self.carrier}/{route}?{said.query()}")
        return node.carriers[self.carrier].callback_url(url, self.account)
