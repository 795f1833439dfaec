"""One operation of the API from request to answer: who asks, what is said, what is done, and the line in the audit log.

The table of operations (`routes.OPERATIONS`) is what requests are served by and what the description is made of.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import structlog
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.keys import ApiKey
from gateway.api.keys import Scope as KeyScope
from gateway.api.models import NoQuery, dump
from gateway.api.parts import Api
from gateway.api.problems import Problem, to_json, wrong_field
from gateway.api.validation import parse_body, parse_query, read_body
from gateway.errors import RecordsUnavailable, RegistryUnavailable

log = structlog.get_logger(__name__)
audit = structlog.get_logger("gateway.audit")

JSON = "application/json"
NO_STORE = {"cache-control": "no-store"}
Method: TypeAlias = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
READS: frozenset[Method] = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be carried out. key: None where the operation needs none. path: the parts of its path.

    body, query: by the operation's models. request: as it came, its body unread where the operation is `raw`.
    """

    key: ApiKey | None
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Headers
    request: Request


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation answers. body: a model, or a dict that is one already. about: for the audit log."""

    status: int
    body: BaseModel | Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """Write it."""
        said = dump(self.body) if isinstance(self.body, BaseModel) else self.body
        return Response(to_json(said), self.status, {**NO_STORE, **self.headers}, JSON)


Answer: TypeAlias = Reply | Response | Problem
Handler: TypeAlias = Callable[[Api, Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Header:
    """A header of the request that an operation heeds. pattern: of its value. form: the same in words."""

    name: str
    meaning: str
    pattern: str = ""
    form: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    name: unique, for the audit log and the description. scope: that its key must have; None: open. answers: by status,
    a model or a media type. problems: statuses beyond those that every operation may give. raw: it reads query, headers
    and body itself.
    """

    name: str
    method: Method
    path: str
    summary: str
    handle: Handler
    answers: Mapping[int, type[BaseModel] | str]
    scope: KeyScope | None
    body: type[BaseModel] | None = None
    body_optional: bool = False
    query: type[BaseModel] = NoQuery
    problems: tuple[int, ...] = ()
    headers: tuple[Header, ...] = ()
    raw: bool = False

    @property
    def writes(self) -> bool:
        """It changes something: it has a line in the audit log."""
        return self.method not in READS


class Endpoint:
    """The operations of one path, as an ASGI application: any other method is a problem, too."""

    def __init__(self, api: Api, operations: Iterable[Operation]) -> None:
        self._api = api
        self._by_method: dict[str, Operation] = {operation.method: operation for operation in operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        operation = self._by_method.get(request.method)
        if operation is None and request.method == "HEAD":
            operation = self._by_method.get("GET")
        if operation is None:
            allowed = ", ".join(sorted(self._by_method))
            problem = Problem(405, f"This path takes {allowed} only.", "method", headers={"allow": allowed})
            await problem.response()(scope, receive, send)
            return
        await (await self._answer(operation, request))(scope, receive, send)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        key = self._api.keys.find(request.headers.get("authorization", ""))
        if operation.scope is not None and (refusal := self._refused(operation, key)):
            return refusal.response()
        answer = await self._carry_out(operation, request, key)
        if operation.writes:
            about = answer.about if isinstance(answer, Reply) else {}
            status = answer.status_code if isinstance(answer, Response) else answer.status
            code = answer.code if isinstance(answer, Problem) else ""
            _note(operation, key, status, code, {**request.path_params, **about})
        return answer if isinstance(answer, Response) else answer.response()

    def _refused(self, operation: Operation, key: ApiKey | None) -> Problem | None:
        """Return why this key may not do this; None: it may."""
        if key is None:
            self._api.node.refuse("api", "bad_key")
            headers = {"www-authenticate": 'Bearer realm="gateway"'}
            return Problem(401, "A key of [api] keys is needed: Authorization: Bearer <key>.", "bad_key", (), headers)
        if operation.scope not in key.scopes:
            self._api.node.refuse("api", "scope", key=key.name)
            if operation.writes:
                _note(operation, key, 403, "scope", {})
            return Problem(403, f"The key {key.name} has not the scope {operation.scope}.", "scope")
        return None

    async def _carry_out(
        self, operation: Operation, request: Request, key: ApiKey | None
    ) -> Reply | Response | Problem:
        """Read the request and do what it asks. Whatever goes wrong becomes a problem."""
        if operation.raw:
            return await self._do(operation, Asked(key, request.path_params, None, None, request.headers, request))
        query = parse_query(operation.query, request.scope["query_string"].decode("latin-1"))
        if isinstance(query, Problem):
            return query
        for header in operation.headers:
            value = request.headers.get(header.name)
            if value is not None and not re.fullmatch(header.pattern or ".*", value):
                return wrong_field(header.name, f"must be {header.form}")
        raw = await read_body(request)
        if isinstance(raw, Problem):
            return raw
        body: BaseModel | Problem | None = None
        if operation.body is not None:
            content_type = request.headers.get("content-type", "")
            body = parse_body(operation.body, content_type, raw, optional=operation.body_optional)
            if isinstance(body, Problem):
                return body
        return await self._do(operation, Asked(key, request.path_params, query, body, request.headers, request))

    async def _do(self, operation: Operation, asked: Asked) -> Answer:
        try:
            return await operation.handle(self._api, asked)
        except RecordsUnavailable:
            self._api.node.refuse("api", "records_down")
            return Problem(503, "The database does not answer.", "records_down", headers={"retry-after": "5"})
        except RegistryUnavailable:
            self._api.node.refuse("api", "registry_down")
            return Problem(503, "The registry does not answer.", "registry_down", headers={"retry-after": "1"})
        except Exception:
            log.exception("a request to the API failed: a bug", operation=operation.name)
            return Problem(500, "The gateway failed; its log says why.", "bug")


def _note(operation: Operation, key: ApiKey | None, status: int, code: str, about: Mapping[str, str]) -> None:
    """Write the audit log's line: who did what. Of a number it says the last two digits, of a path nothing."""
    shown = {name: value if name != "number" else f"…{value[-2:]}" for name, value in about.items() if name != "path"}
    known = {"code": code, **shown}
    who = key.name if key is not None else ""
    audit.info("audit", key=who, action=operation.name, status=status, **{k: v for k, v in known.items() if v})
