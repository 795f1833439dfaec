"""OpenAPI 3.1 of the API, made of the operations and of the models that validate: it cannot say anything else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Literal

import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.api.operation import JSON, Operation
from gateway.api.problems import MEDIA_TYPE, ProblemModel
from gateway.node.tokens import WEBSOCKET

REF = "#/components/schemas/{model}"
SECURITY = "key"
OF_CARRIERS: Mapping[str, tuple[str, ...]] = {"carrier": (), "transport": (WEBSOCKET,)}
"""Fields of requests that name a carrier, one of those that this gateway has; and what they may be besides."""
ALWAYS = (405, 413, 408)
"""Problems that any operation may give. 422 too: of its query, if it has no body."""
SESSION_ID = r"^[A-Za-z0-9_-]{1,64}$"
PATH_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "session_id": {"type": "string", "pattern": SESSION_ID},
    "number": {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"},
    "path": {"type": "string", "minLength": 1},
    "agent": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
}
FILES = {"audio": "The file.", "text": "Events, as they happen: the connection is not closed."}
"""What an answer without a model is, by its media type."""
MEANS = {
    400: "What is asked for is not served here.",
    401: "No key, or a wrong one.",
    403: "The key has not the scope, or the rules do not allow it.",
    404: "Not known.",
    405: "Another method than those of this path.",
    408: "The body did not come in time.",
    409: "Not possible for this carrier, or in this state.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    416: "The file has no such range.",
    422: "A field is wrong; `errors` names it.",
    429: "Too much: `Retry-After` says when to try again.",
    500: "The gateway failed.",
    501: "Not served by workers of this kind.",
    502: "The carrier refused; `code` and `detail` are its own. Of a bot's route: its worker did not answer.",
    503: "The registry, or the database, does not answer.",
    504: "The bot, or the node that has the call, did not answer in time; `detail` says what may be done all the same.",
}


def describe(operations: Iterable[Operation], server: str, carriers: Sequence[str]) -> bytes:
    """Write the description as JSON. server: the URL that the paths stand below. carriers: those that are on here."""
    operations = tuple(operations)
    schemas, references = _schemas(operations)
    for schema in schemas.values():
        for field, more in OF_CARRIERS.items():
            name, known = schema.get("properties", {}).get(field, {}), [*carriers, *more]
            if "anyOf" in name:
                name["anyOf"] = [{"enum": known}, {"type": "null"}] if known else [{"type": "null"}]
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references, schemas)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "carrier-stream-gateway",
            "version": metadata.version("carrier-stream-gateway"),
            "summary": "Place calls, control them, and know how each one ended.",
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {SECURITY: {"type": "http", "scheme": "bearer", "description": "One of [api] keys."}},
        },
    }
    return orjson.dumps(document)


def _schemas(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[type[BaseModel], dict[str, Any]]]:
    """Return the schemas of all models, and by model the reference to its own."""
    models: dict[type[BaseModel], JsonSchemaMode] = {ProblemModel: "serialization"}
    for operation in operations:
        if operation.body is not None:
            models[operation.body] = "validation"
        models |= {model: "serialization" for model in operation.answers.values() if not isinstance(model, str)}
    references, definitions = models_json_schema(list(models.items()), ref_template=REF)
    schemas: dict[str, Any] = definitions.get("$defs", {})
    return schemas, {model: references[model, mode] for model, mode in models.items()}


def _operation(
    operation: Operation, references: Mapping[type[BaseModel], Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": inspect.getdoc(operation.handle) or "",
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation), *_headers(operation)],
        "responses": {
            **{str(status): _answer(model, references) for status, model in operation.answers.items()},
            **{str(status): _problem(status, references) for status in _problems(operation)},
        },
        "security": [{SECURITY: []}] if operation.scope is not None else [],
    }
    if operation.scope is not None:
        said["description"] += f"\n\nNeeds a key with the scope `{operation.scope}`."
    if operation.body is not None:
        required = not operation.body_optional
        said["requestBody"] = {"required": required, "content": {JSON: {"schema": references[operation.body]}}}
    return said


def _problems(operation: Operation) -> list[int]:
    keyed = (401, 403, 503) if operation.scope is not None else ()
    body = (415,) if operation.body is not None else ()
    return sorted({*ALWAYS, 422, 500, *keyed, *body, *operation.problems})


def _answer(model: type[BaseModel] | str, references: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    if isinstance(model, str):
        return {"description": FILES.get(model.partition("/")[0], "As asked."), "content": {model: {}}}
    summary = (inspect.getdoc(model) or "").partition("\n")[0]
    return {"description": summary, "content": {JSON: {"schema": references[model]}}}


def _problem(status: int, references: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    return {"description": MEANS[status], "content": {MEDIA_TYPE: {"schema": references[ProblemModel]}}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        yield _parameter(name, "path", PATH_PARAMETERS[name], required=True)


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    schema = operation.query.model_json_schema(by_alias=True)
    for name, field in schema.get("properties", {}).items():
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        plain = {key: value for key, value in kinds[0].items() if key not in ("title", "description")}
        if field.get("default") is not None:
            plain["default"] = field["default"]
        yield _parameter(name, "query", plain, field.get("description") or kinds[0].get("description", ""))


def _headers(operation: Operation) -> Iterator[dict[str, Any]]:
    for header in operation.headers:
        pattern = {"pattern": header.pattern} if header.pattern else {}
        yield _parameter(header.name, "header", {"type": "string", **pattern}, header.meaning)


def _parameter(
    name: str,
    place: Literal["path", "query", "header"],
    schema: Mapping[str, Any],
    description: str = "",
    *,
    required: bool = False,
) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name, "in": place, "required": required, "schema": dict(schema)}
    return said | ({"description": description} if description else {})
