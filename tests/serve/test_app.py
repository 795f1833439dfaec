"""The HTTP routes: who is answered, what is too large, where the URL's own path goes, and what is measured."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.carriers import CARRIERS
from gateway.errors import RegistryUnavailable, SettingsError
from gateway.node.node import Node
from gateway.node.urls import NOT_FOUND
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Host, Leases
from gateway.protocol.workers import Worker
from gateway.serve.app import MAX_BODY, make_app, make_authorizer, make_node
from gateway.sessions.table import Sessions
from gateway.settings import Settings, load

SID, TOKEN = "AC1", "twilio-token-of-the-tests"
CALL = {"CallSid": "CA1", "AccountSid": SID, "From": "+15550100001", "To": "+15550100000", "CallStatus": "ringing"}


def settings(**values) -> Settings:
    whole = {"public_url": "https://voice.example.com", "secret": "0123456789abcdef", "services": [{"host": "a.b"}]}
    return Settings.model_validate(whole | values)


@pytest.fixture
def node() -> Node:
    return make_node(settings(), dev=True)


def client(node: Node, *, ready: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(Sessions(node), lambda: ready))
    return httpx.AsyncClient(transport=transport, base_url="http://inside")


def webhooks(node: Node) -> dict[tuple[str, str], float]:
    """{(carrier, outcome): how many were timed}"""
    families = text_string_to_metric_families(node.metrics.expose({}).decode())
    return {
        (sample.labels["carrier"], sample.labels["outcome"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "gateway_webhook_seconds_count"
    }


# Routes.


@pytest.mark.parametrize("route", ["voice", "resume", "status", "stream", "connect", "voice/key"])
async def test_an_unknown_carrier_is_not_there_and_no_label(node, route):
    async with client(node) as http:
        for method in ("GET", "POST"):
            answer = await http.request(method, f"/webhooks/vonage/{route}")
            assert (answer.status_code, answer.text) == (404, NOT_FOUND)
    assert webhooks(node) == {}
    assert node.rejected == {("http", "unknown_carrier"): 2}
    assert "vonage" not in node.metrics.expose({}).decode()


@pytest.mark.parametrize(
    "path", ["/", "/webhooks/twilio", "/webhooks/twilio/voices", "/webhooks/twilio/voice/k/k", "/ws"]
)
async def test_other_paths_are_not_there(node, path):
    async with client(node) as http:
        assert (await http.post(path, data=CALL)).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(node, method):
    async with client(node) as http:
        answer = await http.request(method, "/webhooks/twilio/voice")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}


async def test_carriers_without_credentials_are_not_there_unless_in_dev():
    async with client(make_node(settings())) as http:
        for name in CARRIERS:
            assert (await http.post(f"/webhooks/{name}/voice", data=CALL)).status_code == 404


async def test_connect_is_for_carriers_that_ask_it(node):
    async with client(node) as http:
        assert (await http.post("/webhooks/twilio/connect", data=CALL)).status_code == 404


def host(*workers: Worker, cap: int = 2) -> Host:
    return Host("h", 1, "a.b", "pcm", cap, workers)


async def test_status_names_the_transports(node):
    await node.registry.put_host(host(Worker("w", "unix:/w", "ready")))
    async with client(node) as http:
        answer = await http.get("/status")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", "transports": list(CARRIERS)})
        node.protocols["a.b"] = "relay"
        assert (await http.get("/status")).json()["transports"] == [*CARRIERS, "websocket"]


@pytest.mark.parametrize(
    ("hosts", "ready", "draining", "reason"),
    [
        ([], True, False, "no worker is ready"),
        ([host(Worker("w", "unix:/w", "starting"))], True, False, "no worker is ready"),
        ([host(Worker("w", "unix:/w", "ready"))], False, False, "min_warm"),
        ([host(Worker("w", "unix:/w", "ready"))], True, True, "draining"),
        ([host(Worker("w", "unix:/w", "busy"))], True, False, ""),
        ([host()], True, False, ""),
    ],
    ids=["no host", "first start", "not warm", "draining", "all busy", "starts on demand"],
)
async def test_status_is_ready_when_a_call_would_be_served(node, hosts, ready, draining, reason):
    for one in hosts:
        await node.registry.put_host(one)
    node.draining = draining
    async with client(node, ready=ready) as http:
        answer = await http.get("/status")
    said = answer.json()
    assert said["transports"] == list(CARRIERS)
    assert reason in said.get("reason", "")
    assert (answer.status_code, said["status"]) == ((503, "not ready") if reason else (200, "ready"))


async def test_status_of_a_registry_that_is_away(node):
    class Away(MemoryRegistry):
        async def slots(self, service):
            raise RegistryUnavailable("away")

    node.registry.registry = Away(Leases())
    async with client(node) as http:
        answer = await http.get("/status")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the registry does not answer")


async def test_many_who_ask_for_the_status_ask_the_registry_once(node):
    asked = []

    class Counting(MemoryRegistry):
        async def slots(self, service):
            asked.append(service)
            return await super().slots(service)

    node.registry.registry = Counting(Leases())
    async with client(node) as http:
        await asyncio.gather(*(http.get("/status") for _ in range(20)))
    assert asked == ["a.b"]


@pytest.mark.parametrize(
    ("ready", "draining", "statuses"), [(True, False, 200), (False, False, 503), (True, True, 503)]
)
async def test_health_is_on_the_public_port_too_but_metrics_are_not(node, ready, draining, statuses):
    node.draining = draining
    async with client(node, ready=ready) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == statuses
        assert (await http.get("/lbz")).status_code == (404 if draining else 200)
        assert (await http.get("/metrics")).status_code == 404


# Bodies.


async def test_the_largest_body_is_read_and_one_byte_more_is_not(node):
    async with client(node) as http:
        as_form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await http.post("/webhooks/twilio/voice", content=b"x" * MAX_BODY, headers=as_form)).status_code != 413
        assert not node.rejected["webhook", "too_large"]
        answer = await http.post("/webhooks/twilio/voice", content=b"x" * (MAX_BODY + 1), headers=as_form)
    assert (answer.status_code, answer.content) == (413, b"")
    assert node.rejected["webhook", "too_large"] == 1


async def test_a_body_without_a_length_is_read_no_further_than_the_limit(node):
    read = 0

    async def receive():
        nonlocal read
        read += 16384
        return {"type": "http.request", "body": b"x" * 16384, "more_body": True}

    answer = await asgi(node, "/webhooks/twilio/voice", receive)
    assert answer == 413
    assert read <= MAX_BODY + 16384


async def test_a_client_that_goes_away_in_the_middle_costs_nothing(node):
    parts = [{"type": "http.request", "body": b"CallSid", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return parts.pop(0)

    assert await asgi(node, "/webhooks/twilio/voice", receive) == 400
    assert webhooks(node) == {}


async def asgi(node: Node, path: str, receive) -> int:
    """The status of a POST whose body comes by `receive`."""
    statuses = []

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
    }  # fmt: skip
    await make_app(Sessions(node), lambda: True)(scope, receive, send)
    [status] = statuses
    return status


# The public URL.


def signed(url: str, fields: dict[str, str]) -> dict[str, str]:
    """Twilio's signature of a form (https://www.twilio.com/docs/usage/security)."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return {"X-Twilio-Signature": base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), hashlib.sha1)).decode()}


@pytest.mark.parametrize("public", ["https://voice.example.com", "https://voice.example.com/tel/v1"])
@pytest.mark.parametrize("stripped", [False, True])
async def test_signatures_are_over_the_public_url_though_a_proxy_strips_its_path(public, stripped):
    node = make_node(settings(public_url=public, carriers=twilio()))
    path = "/webhooks/twilio/voice"
    asked = path if stripped else public.removeprefix("https://voice.example.com") + path
    async with client(node) as http:
        good = await http.post(asked, data=CALL, headers=signed(public + path, CALL))
        bad = await http.post(asked, data=CALL, headers=signed("http://inside" + path, CALL))
    assert (good.status_code, bad.status_code) == (200, 403)
    assert webhooks(node) == {("twilio", "answered"): 1, ("twilio", "refused"): 1}


async def test_every_url_that_a_carrier_is_given_has_the_public_path():
    node = make_node(settings(public_url="https://voice.example.com/tel"), dev=True)
    await node.registry.put_host(Host("h", 1, "a.b", "pcm", 1, (Worker("w", "unix:/w", "ready"),)))
    async with client(node) as http:
        answer = (await http.post("/tel/webhooks/twilio/voice", data=CALL)).text
    assert 'url="wss://voice.example.com/tel/ws/twilio/' in answer
    assert ">https://voice.example.com/tel/webhooks/twilio/resume?" in answer
    assert make_authorizer(Sessions(node), settings(), dev=True, local_key="k").prefix == "/tel"


def twilio() -> dict:
    environ = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN}
    return {"twilio": load(environ=environ).carrier("twilio")}


async def test_signatures_in_several_lines_are_one_list():
    """Plivo sends a signature for each of its tokens; a proxy may write a list as several lines (RFC 9110 5.3)."""
    environ = {"PLIVO_AUTH_ID": "MA1", "PLIVO_AUTH_TOKEN": TOKEN}
    node = make_node(settings(carriers={"plivo": load(environ=environ).carrier("plivo")}))
    url = "https://voice.example.com/webhooks/plivo/voice"
    fields = {"CallUUID": "11111111-2222-3333-4444-555555555555", "CallStatus": "ringing", "ParentAuthID": "MA1"}
    text = f"{url}?" + "".join(name + fields[name] for name in sorted(fields)) + ".nonce"
    right = base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), hashlib.sha256)).decode()
    wrong = base64.b64encode(bytes(32)).decode()
    async with client(node) as http:
        for lines, status in (([wrong, right], 200), ([right, wrong], 200), ([wrong, wrong], 403)):
            headers = [("X-Plivo-Signature-V3", one) for one in lines] + [("X-Plivo-Signature-V3-Nonce", "nonce")]
            answer = await http.post("/webhooks/plivo/voice", data=fields, headers=headers)
            assert answer.status_code == status, lines


# What is measured.


class Failing(MemoryRegistry):
    async def find(self, alias):
        raise ZeroDivisionError


async def test_webhooks_are_timed_by_how_they_came_out(node):
    async with client(node) as http:
        await http.post("/webhooks/twilio/voice", data=CALL)
        await http.post("/webhooks/twilio/status", data=CALL | {"CallStatus": "completed"})
        await http.post("/webhooks/twilio/voice", data={"AccountSid": SID})
        await http.get("/webhooks/plivo/voice?CallUUID=1&From=1&To=2")
    assert webhooks(node) == {
        ("twilio", "answered"): 1,
        ("twilio", "noted"): 1,
        ("twilio", "malformed"): 1,
        ("plivo", "answered"): 1,
    }


async def test_a_bug_of_ours_is_counted_as_such(node):
    node.registry.registry = Failing(Leases())
    async with client(node) as http:
        with pytest.raises(ZeroDivisionError):
            await http.post("/webhooks/twilio/voice", data=CALL)
    assert webhooks(node) == {("twilio", "failed"): 1}


# The node.


def test_a_node_needs_to_know_its_own_name():
    with pytest.raises(SettingsError, match=r"^public_url: is missing"):
        make_node(settings(public_url=""))


def test_two_nodes_without_a_secret_have_different_ones():
    without = settings().model_copy(update={"secret": ()})
    ids = {make_node(without, dev=True).signer.session_id("twilio", "", "CA1") for _ in range(2)}
    assert len(ids) == 2


def test_two_nodes_with_the_same_secret_agree():
    ids = {make_node(settings(), dev=True).signer.session_id("twilio", "", "CA1") for _ in range(2)}
    assert len(ids) == 1


def test_regions_reach_the_serializers():
    config = load(
        environ={f"GATEWAY_CARRIERS__EXOTEL__{k}": v for k, v in {"ACCOUNT_SID": "a", "REGION": "GB"}.items()}
    )
    with_region = settings(carriers={"exotel": config.carrier("exotel")})
    node = make_node(with_region, dev=True)
    assert node.carriers["exotel"].make_serializer().region == "GB"
    assert node.carriers["twilio"].make_serializer().region is None
