"""May this number be dialled? Closed until `[dialout] allow` says so: a caller can talk a bot into a transfer."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_NUMBER = 16


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """allow: prefixes ("+1", "+4420") or regions ("GB"). Premium, shared-cost, satellite, short and emergency numbers
    never, whatever is allowed.
    """

    allow: tuple[str, ...] = ()

    def __call__(self, to: str) -> bool:
        """to: E.164. Anything else, `sip:` among it, is not a telephone number and is not dialled."""
        if not self.allow or len(to) > MAX_NUMBER or not re.fullmatch(r"\+[1-9]\d{6,14}", to, re.ASCII):
            return False
        import phonenumbers
        from phonenumbers import PhoneNumberType as Kind

        try:
            number = phonenumbers.parse(to)
        except phonenumbers.NumberParseException:
            return False
        never = (Kind.PREMIUM_RATE, Kind.SHARED_COST, Kind.UAN, Kind.PAGER, Kind.VOICEMAIL)
        if number.country_code in SATELLITE or phonenumbers.number_type(number) in never:
            return False
        region = phonenumbers.region_code_for_number(number)
        return any(to.startswith(rule) if rule.startswith("+") else rule == region for rule in self.allow)


SATELLITE = frozenset({870, 878, 881, 882, 883, 979})
"""Codes of networks, not of countries (ITU-T, list of assigned country codes): satellite, international premium."""
