"""The API's description as one page: no script, nothing fetched from elsewhere, all text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import orjson

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem;font-size:1.1rem}
code{font:14px ui-monospace,monospace;background:#f2f2f2;padding:.1rem .3rem;border-radius:3px}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #eee}
th{font-weight:600}caption{text-align:left;font-weight:600;padding-top:.8rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code{background:#2a2a2a}td,th{border-color:#333}}
"""
PAGE_HEADERS = {
    # The one style is inline; nothing else may be loaded, framed or sent.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def write_page(document: bytes) -> str:
    """Write the page. document: OpenAPI, as JSON."""
    said = orjson.loads(document)
    info, server = said["info"], said["servers"][0]["url"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(info['title'])}: API</title><style>{STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['summary'])}</p>",
        f"<p>Base URL <code>{escape(server)}</code>. Send a key as <code>Authorization: Bearer …</code>. Errors are "
        "<code>application/problem+json</code>. For programs: <a href='openapi.json'>openapi.json</a>.</p>",
    ]
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method.upper(), path, operation, said["components"]["schemas"])
    return "".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{escape(operation["operationId"])}"><code>{method} {escape(path)}</code></h2>'
    yield f"<p>{escape(operation['summary'])}</p>"
    scope = operation["description"].partition("scope `")[2].partition("`")[0]
    if scope:
        yield f"<p>Scope <code>{escape(scope)}</code>.</p>"
    rows = [(one["name"], one["in"], one["schema"], one.get("description", "")) for one in operation["parameters"]]
    rows += _fields(operation.get("requestBody", {}), schemas)
    if rows:
        yield "<table><caption>Request</caption>"
        for name, place, schema, description in rows:
            kind = escape(_kind(schema))
            yield f"<tr><td><code>{escape(name)}</code><td>{place}<td>{kind}<td>{escape(description)}"
        yield "</table>"
    yield "<table><caption>Answers</caption>"
    for status, answer in operation["responses"].items():
        names = ", ".join(_names(answer, schemas))
        yield f"<tr><td>{status}<td>{escape(answer['description'])}<td>{escape(names)}"
    yield "</table>"


def _fields(body: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any], str]]:
    for content in body.get("content", {}).values():
        schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        for name, field in schema.get("properties", {}).items():
            place = "body, required" if name in schema.get("required", ()) else "body"
            yield name, place, field, field.get("description", "")


def _names(answer: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    """Name the fields of an answer that is no problem."""
    for kind, content in answer.get("content", {}).items():
        reference = content.get("schema", {}).get("$ref", "")
        if reference and "problem" not in kind:
            yield from schemas[reference.rpartition("/")[2]].get("properties", {})


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    one = kinds[0] if kinds else {}
    if "enum" in one:
        return " | ".join(map(str, one["enum"]))
    default = f", {schema['default']}" if schema.get("default") not in (None, {}) else ""
    return f"{one.get('type', '')}{default}"
