"""A gateway with keys to its API, and a client that has one."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx
from pydantic import SecretStr

from gateway.api.keys import SCOPES, ApiKey, ApiKeys
from gateway.api.parts import Api
from gateway.serve.app import make_app

KEY = "the-key-of-the-tests"
READ_KEY = "the-key-of-a-reader"
KEYS = ApiKeys(
    [
        ApiKey("all", frozenset(SCOPES), (SecretStr(KEY),)),
        ApiKey("reader", frozenset({"calls:read"}), (SecretStr(READ_KEY),)),
    ]
)
PROBLEM = "application/problem+json"


@asynccontextmanager
async def api_of(sessions, key: str = KEY, **parts):
    """A client of this gateway's API. key: "" for none."""
    app = make_app(sessions, lambda: True, Api(sessions, KEYS, **parts))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1", headers=headers) as http:
        yield http


def problem(answer: httpx.Response, status: int) -> dict:
    """The answer is a problem of this status. Returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    said = answer.json()
    assert (said["type"], said["status"]) == ("about:blank", status)
    assert said["title"] and said["detail"]
    return said
