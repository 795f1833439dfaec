"""What the API answers when it does not do what was asked: RFC 9457, one form for all routes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class WrongField(BaseModel):
    """One field of the request that is not as it must be."""

    field: str = Field(description="Its name; names of nested fields are joined by dots.")
    detail: str


class ProblemModel(BaseModel):
    """A problem as it is written, for the API's description."""

    model_config = ConfigDict(title="Problem")

    type: str = Field("about:blank", description="Always about:blank: status and code say which problem it is.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is the matter, in a sentence.")
    code: str | None = Field(None, description="A word for programs; of a carrier's refusal the carrier's own code.")
    errors: list[WrongField] | None = Field(None, description="Which fields are wrong, with 422.")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. detail: a sentence. code: a word for programs, "" for none. fields: (name, what is wrong)."""

    status: int
    detail: str
    code: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """Write it."""
        said: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.code:
            said["code"] = self.code
        if self.fields:
            said["errors"] = [{"field": name, "detail": detail} for name, detail in self.fields]
        return Response(to_json(said), self.status, dict(self.headers), MEDIA_TYPE)


def to_json(said: Any) -> bytes:
    """Write JSON. What carriers and callers have put in may be more than orjson takes."""
    try:
        return orjson.dumps(said)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(said).encode()


def wrong_field(name: str, detail: str, code: str = "invalid") -> Problem:
    """Say that one field is wrong. detail: a clause, as "must be E.164"."""
    return Problem(422, f"{name}: {detail}", code, ((name, detail),))


def not_found(what: str) -> Problem:
    return Problem(404, f"{what}.", "not_found")
