"""The accounts at the simulated APIs: the same at every start, so that a settings file stays right."""

from __future__ import annotations

import hashlib
import json

from gateway.simulator.carriers import Credentials
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.telnyx import TelnyxAccount
from gateway.simulator.twilio import TwilioAccount


def _made(what: str, size: int) -> str:
    """Return so many hexadecimal digits, the same for the same words."""
    return hashlib.sha256(f"gateway simulate-carriers: {what}".encode()).hexdigest()[:size]


def fixed_accounts() -> Credentials:
    """Make one account at each carrier, of the shape that the carrier gives out."""
    return Credentials(
        twilio=TwilioAccount("AC" + _made("twilio account", 32), _made("twilio token", 32)),
        telnyx=TelnyxAccount(_made("telnyx seed", 64), "1" + "0" * 17 + "1", "KEY" + _made("telnyx key", 32)),
        plivo=PlivoAccount("MA" + _made("plivo account", 18).upper(), _made("plivo token", 40)),
        exotel=ExotelAccount(
            "sim" + _made("exotel account", 8),
            _made("exotel secret", 32),
            _made("exotel key", 32),
            _made("exotel token", 32),
        ),
    )


def settings_of(accounts: Credentials, url: str) -> str:
    """Return what `[carriers.…]` of gateway.toml says of these accounts, with the API of each at `url`."""
    sections = []
    for name, account in accounts.items():
        keys = {**account.settings(), "api_url": f"{url}/{name}"}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        sections.append("\n".join([f"[carriers.{name}]", *lines]))
    return "\n\n".join(sections) + "\n"
