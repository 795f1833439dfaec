"""CallData: what the handshake says about the call, the same for every carrier.

Behaves like Pipecat's `CallData`, so that bots written for its runner need no change: fields as attributes,
and item access over the wire's keys (`cd["from"]`, not `cd["from_number"]`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CallData", "ExotelCallData", "TelnyxCallData"]


class CallData(BaseModel):
    """The normalized handshake.

    stream_id, call_id: the carrier's. from_number (wire key `from`), to_number (`to`): E.164 where they are
    telephone numbers; raw_from, raw_to: as the carrier wrote them. body: what the flow's author or the caller
    of the API gave. direction: "inbound" or "outbound". encoding, sample_rate: what the caller's audio is on
    the carrier's wire, as in `MediaFormat`. caller_name, forwarded_from: as the carrier has them, or "". stir:
    how far the carrier vouches for the caller's number (STIR/SHAKEN attestation), None if it says nothing. sip_headers:
    of a caller who came by SIP, by their names. Extras are allowed, as attributes and as items.

    Built by field name or by wire key. Raises pydantic.ValidationError for a wrong type and for `body=None`.
    """

    model_config = ConfigDict(populate_by_name=True, extra="allow")

    stream_id: str | None = None
    call_id: str | None = None
    from_number: str | None = Field(default=None, alias="from")
    to_number: str | None = Field(default=None, alias="to")
    body: dict[Any, Any] = Field(default_factory=dict)

    carrier: str = ""
    service_host: str = ""
    direction: str = "inbound"
    encoding: str = "mulaw"
    sample_rate: int = 8000
    raw_from: str = ""
    raw_to: str = ""
    caller_name: str = ""
    forwarded_from: str = ""
    stir: Literal["A", "B", "C", "failed"] | None = None
    sip_headers: dict[str, str] = Field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        """Write the JSON object in wire keys, unset fields as None.

        It is `call` in the worker protocol's `start`.
        """
        return self.model_dump(mode="json", by_alias=True)

    def without_parameters(self, names: Collection[str]) -> Self:
        """Return it without these of the handshake's parameters."""
        body = {name: value for name, value in self.body.items() if name not in names}
        return self.model_copy(update={"body": body}) if len(body) < len(self.body) else self

    @staticmethod
    def from_wire(fields: Mapping[str, Any]) -> CallData:
        """The CallData that `wire()` was made of, in its own class.

        Raises pydantic.ValidationError (a ValueError) for fields of a wrong type.
        """
        carrier = fields.get("carrier")
        kinds = {kind.model_fields["carrier"].default: kind for kind in CallData.__subclasses__()}
        kind = kinds.get(carrier, CallData) if isinstance(carrier, str) else CallData
        return kind.model_validate(dict(fields))

    def __getitem__(self, key: str) -> Any:
        """`cd["from"]`; None for an unset field. Raises KeyError for an unknown key."""
        return self.model_dump(by_alias=True)[key]

    def __contains__(self, key: str) -> bool:
        """True when the key has a value; "" is one, None is not."""
        return self.model_dump(by_alias=True).get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a wire key, or `default` when it is missing or None."""
        value = self.model_dump(by_alias=True).get(key)
        return default if value is None else value


class TelnyxCallData(CallData):
    """A call of Telnyx'.

    outbound_encoding: its word for the leg's codec ("PCMA"). Outbound from Telnyx: what we receive.
    """

    carrier: str = "telnyx"
    outbound_encoding: str | None = None


class ExotelCallData(CallData):
    """account_sid, custom_parameters: as Exotel gave them, ours taken out."""

    carrier: str = "exotel"
    encoding: str = "l16"
    account_sid: str | None = None
    custom_parameters: str | dict[Any, Any] | None = None

    def without_parameters(self, names: Collection[str]) -> Self:
        call = super().without_parameters(names)
        return call if call is self else call.model_copy(update={"custom_parameters": call.body})


RESERVED_PREFIX = "gw_"
"""Every name that the gateway itself puts into a URL or a stream's parameters begins with this."""

_STREAM_KEY = "key"
"""A static stream's key where it travels as a parameter, as on Exotel: a secret, and not the bot's business."""


def is_own_parameter(name: str) -> bool:
    """Whether a parameter of this name is the gateway's, also where it has become a SIP header of Plivo's."""
    name = name.removeprefix("X-PH-")
    return name == _STREAM_KEY or name.startswith(RESERVED_PREFIX)


def own_parameters_removed(params: Mapping[str, Any]) -> dict[str, Any]:
    """The custom parameters that are the flow author's."""
    return {k: v for k, v in params.items() if not is_own_parameter(k)}
