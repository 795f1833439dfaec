"""Read what a request says, within bounds, into the models that describe it. Whatever is wrong names its field."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from gateway.api.problems import Problem

MAX_BODY = 256 * 1024
"""Bytes of a request's body."""
BODY_SECONDS = 10.0
"""From a request's headers to the end of its body."""
MAX_QUERY = 8 * 1024
"""Characters of a query."""
MAX_ERRORS = 20
"""Wrong fields that one answer names."""
PLAIN = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be an object",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "literal_error": "must be {expected}",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "none_required": "must be null",
}
"""pydantic's kinds of errors in plain words; `{…}` is of its `ctx`. Others keep pydantic's words."""

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request, seconds: float = BODY_SECONDS) -> bytes | Problem:
    """Read the whole body. seconds: for it to come."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return Problem(413, f"The body is larger than {MAX_BODY // 1024} KB.", "too_large")
    except ClientDisconnect:
        return Problem(400, "The connection was closed before the body's end.", "disconnected")
    except TimeoutError:
        return Problem(408, f"The body did not come within {seconds:g} s.", "slow", headers={"connection": "close"})
    return bytes(body)


def parse_body(model: type[ModelT], content_type: str, body: bytes, *, optional: bool) -> ModelT | Problem:
    """Read a JSON body. optional: an empty one is an empty object."""
    if not body and optional:
        body = b"{}"
    elif content_type.partition(";")[0].strip().lower() != "application/json":
        return Problem(415, "The body must be JSON: send it with Content-Type: application/json.", "not_json")
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:  # also for bad UTF-8, and nesting that would take the stack
        return Problem(422, f"The body is not JSON: {error}.", "bad_json", (("", "is not JSON"),))
    return validate(model, said)


def parse_query(model: type[ModelT], query: str) -> ModelT | Problem:
    """Read a query, each of whose names stands there once."""
    if len(query) > MAX_QUERY:
        return Problem(422, f"The query is longer than {MAX_QUERY} characters.", "too_long", (("", "is too long"),))
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return Problem(422, "The query is not UTF-8, or has too many fields.", "bad_query", (("", "cannot be read"),))
    said: dict[str, str] = {}
    for name, value in pairs:
        if name in said:
            return Problem(422, f"{_shown(name)}: is there twice.", "invalid", ((_shown(name), "is there twice"),))
        said[name] = value
    return validate(model, said)


def validate(model: type[ModelT], said: Any) -> ModelT | Problem:
    """Make the model of what was said. No value shows in a problem: it may be a secret."""
    try:
        return model.model_validate(said)
    except ValidationError as error:
        fields = tuple(_wrong_fields(error, model))[:MAX_ERRORS]
    detail = "; ".join(f"{name}: {detail}" if name else f"the body {detail}" for name, detail in fields)
    return Problem(422, f"{detail}.", "invalid", fields)


def _wrong_fields(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for each in error.errors(include_input=False, include_url=False):
        place = [str(part) for part in each["loc"]]
        if each["type"] == "extra_forbidden":
            detail = _no_such_field(place[-1], model)
        else:
            detail = _plain(each["type"], each["msg"], each.get("ctx", {}), model, place)
        yield ".".join(_shown(part) for part in place), detail


def _plain(kind: str, message: str, context: Mapping[str, Any], model: type[BaseModel], place: list[str]) -> str:
    if kind == "string_pattern_mismatch":
        form = next((one.description for one in _fields(model).values() if place and one.alias == place[-1]), None)
        form = form or (model.model_fields[place[-1]].description if place and place[-1] in model.model_fields else "")
        return f"has not the form that it must have ({form})" if form else "has not the form that it must have"
    return PLAIN[kind].format_map(context) if kind in PLAIN else message


def _no_such_field(name: str, model: type[BaseModel]) -> str:
    known = [field.alias or name for name, field in _fields(model).items()]
    near = difflib.get_close_matches(name[:64], known, 1)
    meant = f"do you mean {near[0]}?" if near else f"there are {', '.join(known)}" if known else "there are none"
    return f"there is no such field; {meant}"


def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_fields


def _shown(name: str) -> str:
    """Write a stranger's name of a field so that it is one line, and short."""
    shown = name[:64]
    return shown if shown.isprintable() else ascii(shown)[1:-1]
