"""Telephone numbers as carriers write them, made E.164.

ITU-T: "+", country code, at most 15 digits.

Twilio and Telnyx say `+15550100`, Plivo says `15550100` in one webhook and `+15550100` in the next of the
same call, Exotel says `09494865411` as one would dial it in India.
"""

from __future__ import annotations

import re

MAX_LENGTH = 256
"""Characters that are kept of what is not a number: enough for any SIP URI that a carrier passes on."""

_MAX_WRITTEN = 40
"""A telephone number with all its spaces and dashes is shorter than this."""

_SEPARATORS = dict.fromkeys(map(ord, " -.()/\t\u00a0\u2010\u2011\u2012\u2013\u202d\u202c"))
"""What people write between digits, and the invisible marks that come with a copied number."""


def e164(raw: str | None, region: str | None = None) -> str:
    """Write `raw` as E.164 where it is a telephone number.

    What is none passes as it came ("" for None).

    None are: `sip:` and `client:` names, "anonymous", "Restricted", short codes, "". region: ISO 3166 code of
    the country ("IN") in whose national form a number may come; without one a number needs its "+" or "00", as digits
    alone may be a number of any country ("2025550143" is one of Washington's, and with a plus one of Cairo's).
    Never raises; at most MAX_LENGTH characters come out.
    """
    if not raw:
        return ""
    if len(raw) > _MAX_WRITTEN:
        return raw[:MAX_LENGTH]
    written = raw.strip().removeprefix("tel:")
    if written.startswith("+"):
        # +44 (0)20 …: the trunk prefix in brackets is for callers at home.
        digits = written[1:].replace("(0)", "").translate(_SEPARATORS)
        return _international(digits) or raw
    digits = written.translate(_SEPARATORS)
    if not _is_digits(digits):
        return raw
    if digits.startswith("00"):
        return _international(digits[2:]) or raw
    return (_national(digits, region) if region else "") or raw


_NORTH_AMERICAN = re.compile("[2-9][0-9]{2}[2-9][0-9]{6}")
"""The ten digits of a number of the North American Numbering Plan without its country code."""


def e164_of_digits(raw: str, other: str = "", region: str | None = None) -> str:
    """Write digits that begin with a country code as E.164.

    Plivo leaves out the plus in some callbacks.

    other: the number at the other end. What could be a national number in a call of North America's passes as it came.
    region: as for `e164`, and asked first.
    """
    number = e164(raw, region)
    full = _is_digits(raw) and len(raw) > 7 and not raw.startswith("0")  # short codes have six at most
    if number.startswith("+") or not full:
        return number
    if _NORTH_AMERICAN.fullmatch(raw) and other.removeprefix("+").startswith("1"):
        return raw
    return _international(raw) or raw


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _international(digits: str) -> str:
    """Put the plus before digits that can be a whole number.

    No country code begins with 0. No table of ranges is asked: numbers of new ones must pass too.
    """
    sound = _is_digits(digits) and 7 <= len(digits) <= 15 and digits[0] != "0"
    return f"+{digits}" if sound else ""


def _national(digits: str, region: str) -> str:
    """Read a number as dialled in `region`, or with its country code.

    Without its plus; "" if it can be neither.
    """
    import phonenumbers  # 16 ms, and only carriers with national numbers need it

    def parsed(text: str) -> phonenumbers.PhoneNumber | None:
        try:
            return phonenumbers.parse(text, region.upper())
        except phonenumbers.NumberParseException:
            return None

    home, abroad = parsed(digits), parsed(f"+{digits}")

    def is_possible(number: phonenumbers.PhoneNumber) -> bool:
        reason = phonenumbers.is_possible_number_with_reason(number)
        return bool(reason == phonenumbers.ValidationResult.IS_POSSIBLE)  # not: possible without the area code

    for number, test in (
        (home, phonenumbers.is_valid_number),
        (abroad, phonenumbers.is_valid_number),
        (home, is_possible),  # numbers for drama and tests are possible, never valid
    ):
        if number is not None and test(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return ""
