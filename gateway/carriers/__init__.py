"""The carriers' HTTP side. `CARRIERS` is the table: a fifth carrier is one file beside these and one line
here.

Importing this package imports no carrier's SDK: those are slow, and `gateway --help` has no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.carriers import exotel, plivo, telnyx, twilio
from gateway.carriers.base import Carrier
from gateway.carriers.config import CarrierConfig


@dataclass(frozen=True, slots=True)
class CarrierEntry:
    """One carrier. env: the environment variables that its users already have, and the key that each one
    fills.
    """

    carrier: type[Carrier]
    config: type[CarrierConfig[Any]]
    env: Mapping[str, str]


CARRIERS: Mapping[str, CarrierEntry] = {
    "twilio": CarrierEntry(
        twilio.TwilioCarrier,
        twilio.Config,
        {"TWILIO_ACCOUNT_SID": "account_sid", "TWILIO_AUTH_TOKEN": "auth_token"},
    ),
    "telnyx": CarrierEntry(
        telnyx.TelnyxCarrier,
        telnyx.Config,
        {"TELNYX_API_KEY": "api_key", "TELNYX_PUBLIC_KEY": "public_key"},
    ),
    "plivo": CarrierEntry(
        plivo.PlivoCarrier,
        plivo.Config,
        {"PLIVO_AUTH_ID": "auth_id", "PLIVO_AUTH_TOKEN": "auth_token"},
    ),
    "exotel": CarrierEntry(
        exotel.ExotelCarrier,
        exotel.Config,
        {
            "EXOTEL_ACCOUNT_SID": "account_sid",
            "EXOTEL_API_KEY": "api_key",
            "EXOTEL_API_TOKEN": "api_token",
            "EXOTEL_WEBHOOK_SECRET": "webhook_secret",
        },
    ),
}
