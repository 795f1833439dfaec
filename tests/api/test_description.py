"""The description of the API: of the routes that there are, and of nothing else; and the page of it."""

from __future__ import annotations

import re

import pytest

from gateway.api.routes import OPERATIONS


@pytest.fixture
async def document(http) -> dict:
    answer = await http.get("/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_it_needs_no_key(gateway, http):
    for path in ("/v1/openapi.json", "/v1/docs"):
        assert (await http.get(path, headers={"authorization": ""})).status_code == 200


async def test_all_operations_are_described(document):
    said = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert said >= {(operation.method, operation.path) for operation in OPERATIONS}
    assert {("GET", "/v1/events"), ("GET", "/status")} <= said
    assert document["openapi"] == "3.1.0"


async def test_events_are_described_as_a_stream_and_the_status_as_open(document):
    events, status = document["paths"]["/v1/events"]["get"], document["paths"]["/status"]["get"]
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert [one["name"] for one in events["parameters"]] == ["types"] and events["security"] == [{"key": []}]
    for answer in ("200", "503"):
        schema = status["responses"][answer]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(document["components"]["schemas"][schema]["properties"]) == {"status", "reason", "transports"}
    assert status["security"] == []


async def test_every_reference_leads_somewhere(http, document):
    text = (await http.get("/v1/openapi.json")).text
    found = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert found and found <= set(document["components"]["schemas"])


async def test_every_operation_has_a_sentence_a_scope_and_problems(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"].endswith("."), path
            assert "422" in operation["responses"]
            if operation["security"]:
                assert "Needs a key with the scope" in operation["description"]


async def test_the_page_loads_nothing_from_anywhere(http):
    answer = await http.get("/v1/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script" not in policy
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|\bon\w+=|src=", answer.text)
    assert "http" not in re.sub(r"<code>http://127.0.0.1:1</code>", "", answer.text)


async def test_the_page_names_all_operations(http):
    page = (await http.get("/v1/docs")).text
    for operation in OPERATIONS:
        assert f"{operation.method} {operation.path}" in page
