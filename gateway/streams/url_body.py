"""`body=` in a static stream's URL: what the flow's author gives their bot, as Pipecat Cloud's URLs carry it."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import orjson

from gateway.carriers.form import read_one
from serializers.call_data import own_parameters_removed
from serializers.fields import parameters


def read_body(query: str) -> dict[str, Any] | None:
    """Read the body in a URL's query: base64 of a JSON object, {} where there is none. None: it is no such thing.

    A raw + has become a blank, and authors use the URL-safe alphabet, or leave out the padding.
    """
    text = read_one(query, "body")
    if not text:
        return {}
    text = text.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        fields = orjson.loads(b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        return None
    return own_parameters_removed(parameters(fields)) if isinstance(fields, dict) else None
