"""Which numbers may be dialled, and how people write them. Closed until `[dialout] allow` says so.

A caller can talk a bot into a transfer, so what a bot names is read here, once, and refused with the cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 64
"""Characters of what is taken for a telephone number at all."""
SATELLITE = frozenset({870, 878, 881, 882, 883, 979})
"""Codes of networks, not of countries (ITU-T, list of assigned country codes): satellite, international premium."""


@dataclass(frozen=True, slots=True)
class NotDialled:
    """Why what was named is not dialled: one clause for the bot and the log."""

    reason: str


def as_dialled(text: str) -> str | NotDialled:
    """Return the number in E.164: spaces, dashes, dots, parentheses and `tel:` (RFC 3966) are how people write it."""
    named = text.strip()
    scheme, _, rest = named.partition(":")
    if rest and scheme.lower() in ("sip", "sips", "client"):
        return NotDialled(f"a {scheme.lower()}: address is not dialled: name a telephone number")
    if rest and scheme.lower() == "tel":
        named = rest
    number, *parameters = named.split(";")
    if any(parameter.lower().startswith("ext=") for parameter in parameters) or re.search(
        r"(?i)\d\s*(x|ext\.?)\s*\d", named
    ):
        return NotDialled("an extension is not dialled: name the number alone, and send its keys when it is answered")
    digits = re.sub(r"[\s().\-/\u2010-\u2015\u00a0]", "", number) if len(number) <= MAX_TEXT else ""
    if re.fullmatch(r"\d{7,15}", digits, re.ASCII):
        return NotDialled("a number without its country code is not dialled: begin with +")
    if not re.fullmatch(r"\+[1-9]\d{6,14}", digits, re.ASCII):
        return NotDialled("this is not a telephone number")
    return NotDialled("a number of this kind is never dialled") if _is_never_dialled(digits) else digits


def _is_never_dialled(number: str) -> bool:
    """True for premium, shared-cost, satellite and other numbers that cost, whatever is allowed. number: E.164."""
    import phonenumbers
    from phonenumbers import PhoneNumberType as Kind

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return True
    never = (Kind.PREMIUM_RATE, Kind.SHARED_COST, Kind.UAN, Kind.PAGER, Kind.VOICEMAIL)
    return parsed.country_code in SATELLITE or phonenumbers.number_type(parsed) in never


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """allow: prefixes ("+1", "+4420") or regions ("GB")."""

    allow: tuple[str, ...] = ()

    def __call__(self, to: str) -> bool:
        """True if this number may be dialled. to: E.164; anything else may not."""
        if not self.allow or as_dialled(to) != to:
            return False
        import phonenumbers

        region = phonenumbers.region_code_for_number(phonenumbers.parse(to))
        return any(to.startswith(rule) if rule.startswith("+") else rule == region for rule in self.allow)
