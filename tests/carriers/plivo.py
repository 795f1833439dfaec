"""What the tests of Plivo's HTTP side share: an account, a webhook, and its signature."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from gateway.carriers.base import HttpRequest, Verified
from gateway.carriers.form import Fields, read_query
from gateway.carriers.plivo import Config, PlivoCarrier
from gateway.carriers.plivo_signature import NONCE, SIGNATURE, sign, to_sign
from tests.carriers.webhooks import (
    PUBLIC,
    Pairs,
    post,
)

AUTH_ID = "MANWVLYTK4ZWU1YTY4QA"
TOKEN = "my-token"
CALL = {
    "CallUUID": "2012cb47-ad3b-fff7-fbec-234a241d39fe",
    "ParentAuthID": AUTH_ID,
    "From": "15550100007",
    "To": "15550100008",
    "CallStatus": "ringing",
    "Direction": "inbound",
    "Event": "StartApp",
}


def carrier(public_url: str = PUBLIC, **config: Any) -> PlivoCarrier:
    settings = {"auth_id": AUTH_ID, "auth_token": TOKEN, **config}
    return PlivoCarrier(Config.model_validate(settings), public_url=public_url)


def query_fields(query: str) -> Fields:
    fields = read_query(query)
    assert isinstance(fields, Fields)
    return fields


def signature(
    method: str, query: str = "", params: Pairs = (), path: str = "/voice", token: str = TOKEN, base: str = PUBLIC
) -> str:
    pairs = query_fields(urlencode(params, doseq=True))
    return sign(token, to_sign(method, base + path, query_fields(query), pairs, "n1"))


def signed(fields: Pairs = CALL, query: str = "", token: str = TOKEN, header: str = SIGNATURE) -> HttpRequest:
    return post(fields, "/voice", query, {header: signature("POST", query, fields, token=token), NONCE: "n1"})


def account(result: object) -> str:
    assert isinstance(result, Verified), result
    return result.account
