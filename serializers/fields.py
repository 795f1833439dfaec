"""Reading JSON that a carrier wrote.

Lenient about case, type and absence, total on everything.

Carriers differ, and differ from their own documents: `streamSid` or `stream_sid`, "8000" or 8000, a member
absent or null, parameters as an object, as a list of name and value, or as text. All of that is levelled
here, and only for the rare messages: media take the short way in `stream.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from serializers.base import MediaFormat

MAX_TEXT = 1024
"""Characters of one text field. Ids are under 120 and Plivo's extra headers 512 at most; what is longer is no
such field and reads as if it were not there."""

MAX_PARAMETERS = 256
"""Custom parameters of one stream; carriers allow a few hundred characters for all of them together."""

MAX_DEPTH = 16
"""Objects within objects in a custom parameter. orjson reads 1,024 levels, but neither it nor pydantic writes
so many again, and CallData must go on to the worker."""


def folded(value: object) -> dict[str, Any]:
    """Copy a JSON object with its keys in lower case, without underscores.

    {} for anything else.

    Where two keys fall together the first one that is not null stays.
    """
    result: dict[str, Any] = {}
    if isinstance(value, dict):
        for key, member in value.items():
            name = key.replace("_", "").lower()
            if result.get(name) is None:
                result[name] = member
    return result


def text_of(fields: Mapping[str, Any], *keys: str) -> str:
    """Read the first of these members that is text or a whole number.

    As text; "" if there is none.
    """
    for key in keys:
        value = fields.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and 0 < len(value) <= MAX_TEXT:
            return value
    return ""


def media_format(value: object, default: MediaFormat) -> MediaFormat:
    """Read the media format that `start` announces.

    What it leaves out is taken from `default`.

    Plivo's content type may be given whole ("audio/x-l16;rate=16000"); a rate may be 8000,
    16000.0, "8000", "8000Hz" or "16kHz".
    """
    fields = folded(value)
    word, _, parameters = text_of(fields, "encoding").partition(";")
    encoding = encoding_name(word) or default.encoding
    rate = _rate(fields.get("samplerate")) or _rate(parameters.partition("rate=")[2])
    return MediaFormat(encoding, rate or default.sample_rate)


_ENCODINGS = {
    "mulaw": "mulaw",
    "ulaw": "mulaw",
    "pcmu": "mulaw",
    "alaw": "alaw",
    "pcma": "alaw",
    "l16": "l16",
}


def encoding_name(word: str) -> str:
    """Translate a carrier's word for an encoding.

    "mulaw" for audio/x-mulaw, PCMU, …; unknown ones in lower case.
    """
    word = word.strip().lower()
    return _ENCODINGS.get(word.removeprefix("audio/").removeprefix("x-"), word)


_RATE = re.compile(r"\s*([0-9]{1,6})(?:\.([0-9]{1,3})[0-9]{0,9})?\s*(k?)(?![0-9.])", re.IGNORECASE)


def _rate(value: object) -> int:
    """Read a sample rate in Hz; 0 for what is none.

    8000, 16000.0, "8000", "8000Hz", "16kHz", "22.05 kHz".
    """
    written = _RATE.match(str(value)) if isinstance(value, int | float | str) else None
    if written is None:
        return 0
    whole, thousandths, kilo = written.groups()
    rate = int(whole) * 1000 + int((thousandths or "").ljust(3, "0")) if kilo else int(whole)
    return rate if 4_000 <= rate <= 192_000 else 0


def parameters(value: object) -> dict[str, Any]:
    """Custom parameters in any shape that has been seen; {} for what is none.

    An object; a list of {"name", "value"} (Telnyx); JSON text; "k=v;k2=v2", "k=v,k2=v2", "k=v&k2=v2",
    "{k: v}" (Plivo).
    """
    if isinstance(value, str):
        value = _parameters_text(value)
    if isinstance(value, list):
        value = {
            item["name"]: item.get("value")
            for item in value
            if isinstance(item, dict) and isinstance(item.get("name"), str)
        }
    if not isinstance(value, dict):
        return {}
    sound = [(k, v) for k, v in value.items() if len(k) <= MAX_TEXT and _shallow(v, MAX_DEPTH)]
    return dict(sound[:MAX_PARAMETERS])


def _parameters_text(text: str) -> object:
    if len(text) > 8 * MAX_TEXT:
        return {}
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    text = text.strip().removeprefix("{").removesuffix("}")
    separator = next((s for s in ";&" if s in text), ",")
    result: dict[str, str] = {}
    for entry in text.split(separator):
        name, *value = re.split("[=:]", entry, maxsplit=1)
        if value and name.strip():
            result[name.strip()] = value[0].strip()
    return result


def _shallow(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    members = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_shallow(member, depth - 1) for member in members)
