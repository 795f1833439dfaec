"""Which numbers may be dialled, and how people write them. Closed until `[dialout] allow` says so.

A caller can talk a bot into a transfer, so what a bot names is read here, once, and refused with the cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 64
"""Characters of what is taken for a telephone number at all."""
NOT_A_COUNTRY = frozenset({870, 878, 881, 882, 883, 979})
"""Codes of networks, not of countries (ITU-T, list of assigned country codes): satellite, international premium."""

KIND_DIGITS = 3
"""Digits of a national number that say of what kind it is, in most plans: 900, 118, 809."""
NATIONAL_LENGTHS = range(7, 12)
"""How long the national part of most numbers is."""


@dataclass(frozen=True, slots=True)
class NotDialled:
    """Why what was named is not dialled: one clause for the bot and the log.

    never: it is a telephone number, and the rules do not let us dial it.
    """

    reason: str
    never: bool = False


NEVER = NotDialled("a number of this kind is never dialled", never=True)


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
    if re.fullmatch(r"\+?\d{3,6}", digits, re.ASCII):  # 911, 112, +1911
        return NEVER
    if re.fullmatch(r"\d{7,15}", digits, re.ASCII):
        return NotDialled("a number without its country code is not dialled: begin with +")
    if not re.fullmatch(r"\+[1-9]\d{6,14}", digits, re.ASCII):
        return NotDialled("this is not a telephone number")
    return NEVER if _is_never_dialled(digits) else digits


def _is_never_dialled(number: str) -> bool:
    """True for premium, shared-cost, satellite and other numbers that cost, whatever is allowed. number: E.164."""
    import phonenumbers
    from phonenumbers import PhoneNumberType as Kind

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return True
    never = (Kind.PREMIUM_RATE, Kind.SHARED_COST, Kind.UAN, Kind.PAGER, Kind.VOICEMAIL)
    if parsed.country_code in NOT_A_COUNTRY or phonenumbers.number_type(parsed) in never:
        return True
    if phonenumbers.is_valid_number(parsed):
        return False
    country = parsed.country_code or 0
    return (
        _reaches_an_emergency(country, number)
        or _is_short(parsed)
        or any(phonenumbers.number_type(other) in never for other in _connected_by_prefix(country, number))
    )


def _is_short(parsed: Any) -> bool:
    """True for a short number (directory enquiries, say) behind a country code."""
    import phonenumbers
    from phonenumbers import shortnumberinfo

    regions = phonenumbers.region_codes_for_country_code(parsed.country_code)
    return any(shortnumberinfo.is_valid_short_number_for_region(parsed, region) for region in regions)


def _connected_by_prefix(country: int, number: str) -> Iterator[Any]:
    """Numbers that a switch might connect which looks at no more digits than it needs. number: E.164, not valid.

    Too many digits are ignored; of too few or unassigned ones, the first say which kind of number is meant.
    """
    import phonenumbers

    national = number[1 + len(str(country)) :]
    for length in range(len(national), KIND_DIGITS - 1, -1):
        for total in (length, *NATIONAL_LENGTHS):
            if total >= max(length, 4):
                yield phonenumbers.parse(f"+{country}{national[:length].ljust(total, '2')}")


def _reaches_an_emergency(country: int, number: str) -> bool:
    """True if a switch that reads only the first digits might connect this number to an emergency service."""
    import phonenumbers
    from phonenumbers import shortnumberinfo

    national = number[1 + len(str(country)) :]
    regions = phonenumbers.region_codes_for_country_code(country)
    return any(shortnumberinfo.connects_to_emergency_number(national, region) for region in regions)


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """allow: prefixes ("+1", "+4420") or regions ("GB").

    "+1" alone means the United States and Canada. Of the islands that share the code (+1 809, +1 876 and so on), whose
    numbers may cost like premium ones, each must be named: by its region, or by a prefix with its area code.
    """

    allow: tuple[str, ...] = ()

    def __call__(self, to: str) -> bool:
        """True if this number may be dialled. to: E.164; anything else may not."""
        if not self.allow or as_dialled(to) != to:
            return False
        import phonenumbers

        region = phonenumbers.region_code_for_number(phonenumbers.parse(to)) or ""
        island = to.startswith("+1") and region not in ("", "US", "CA")
        return any(_reaches(rule, to, region, shortest=len("+1809") if island else 1) for rule in self.allow)


def _reaches(rule: str, to: str, region: str, *, shortest: int) -> bool:
    """True if the rule allows this number. shortest: what a prefix must have at least, with its plus."""
    return to.startswith(rule) and len(rule) >= shortest if rule.startswith("+") else rule == region
