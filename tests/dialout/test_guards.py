"""Every guard refuses with its status and a sentence, before anything is done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.dialout.guards import Checked, check
from gateway.dialout.request import DialRefusal
from gateway.errors import RegistryUnavailable
from gateway.node.services import Service, Services
from gateway.pool.registry import Host
from gateway.protocol.workers import Worker
from gateway.simulator.rest import Plan
from tests.dialout.rig import LIMITS, OURS, request, rig
from tests.kit.node import SERVICE

REFUSED = [
    ({"to": "+19005550123"}, 403, "never_dialled", "to"),
    ({"to": "+18095551234"}, 403, "not_allowed", "to"),
    ({"to": "+870773111632"}, 403, "never_dialled", "to"),
    ({"to": "+881612345678"}, 403, "never_dialled", "to"),
    ({"to": "+442079460000"}, 403, "not_allowed", "to"),
    ({"to": "911"}, 403, "never_dialled", "to"),
    ({"to": "+1911"}, 403, "never_dialled", "to"),
    ({"to": "+19115550123"}, 403, "never_dialled", "to"),
    ({"to": "sip:alice@example.com"}, 422, "bad_number", "to"),
    ({"to": ""}, 422, "bad_number", "to"),
    ({"from_number": "+15550109999"}, 403, "not_our_number", "from"),
    ({"from_number": "anonymous"}, 422, "bad_number", "from"),
    ({"carrier": "acme"}, 422, "unknown_carrier", "carrier"),
    ({"carrier": "exotel", "machine_detection": "detect"}, 409, "no_machine_detection", "machine_detection"),
    ({"service_host": "nobody"}, 422, "unknown_service", "serviceHost"),
    ({"body": {"a": "x" * 65536}}, 422, "body_too_large", "body"),
    ({"body": {"a": 2**70}}, 422, "bad_body", "body"),
    ({"max_call_seconds": -1}, 422, "bad_duration", "max_call_seconds"),
    ({"idempotency_key": "k" * 256}, 422, "bad_key", "Idempotency-Key"),
]


async def test_each_guard_refuses_and_says_so_once(tmp_path):
    async with rig(tmp_path, plan=Plan(rings=5.0)) as made:
        [gateway] = made.gateways
        for changes, status, code, field in REFUSED:
            asked = replace(request("twilio", key_name="crm"), **changes)
            with capture_logs() as lines:
                result = await gateway.dialout.place(asked)
            assert isinstance(result, DialRefusal), changes
            assert (result.status, result.code, result.field) == (status, code, field)
            assert result.detail.startswith(f"{field}: ") and result.detail.endswith(".")
            [line] = [line for line in lines if line["event"] == "dial-out"]
            assert (line["key"], line["result"], line["code"]) == ("crm", "refused", code)
            assert asked.to[:-2] not in str(line) or len(asked.to) < 4
        assert not made.carriers.requests
        await gateway.nothing_is_left()


async def test_nothing_is_dialled_until_allow_is_set(tmp_path):
    async with rig(tmp_path, limits=replace(LIMITS, allow=())) as made:
        result = await made.gateways[0].dialout.place(request("twilio"))
        assert (result.status, result.code) == (403, "dialout_closed")


async def test_a_body_for_a_relay_worker_must_fit_a_url(tmp_path):
    async with rig(tmp_path) as made:
        node = made.gateways[0].node
        relay = replace(node, services=Services([Service(SERVICE, protocol="relay")]))
        asked = request("twilio", body={"a": "x" * 5000})
        assert isinstance(check(node, LIMITS, asked), Checked)
        refused = check(relay, LIMITS, asked)
        assert isinstance(refused, DialRefusal) and (refused.status, refused.field) == (422, "body")
        assert isinstance(check(relay, LIMITS, request("twilio", body={"a": "x" * 4000})), Checked)


async def test_numbers_may_be_written_as_people_do(tmp_path):
    async with rig(tmp_path) as made:
        asked = replace(request("twilio", "+1 (555) 019-0001"), from_number="tel:+1-555-0100")
        checked = check(made.gateways[0].node, LIMITS, asked)
        assert isinstance(checked, Checked)
        assert (checked.request.to, checked.request.from_number) == ("+15550190001", OURS)


@pytest.mark.parametrize(("draining", "code"), [(True, "draining"), (False, "overloaded")])
async def test_a_gateway_that_takes_no_calls_places_none(tmp_path, draining, code):
    async with rig(tmp_path) as made:
        [gateway] = made.gateways
        gateway.node.refusing, gateway.node.overloaded = draining, not draining
        result = await gateway.dialout.place(request("twilio"))
        assert (result.status, result.code) == (503, code)


async def test_where_no_static_worker_is_alive_none_is_taken(tmp_path):
    async with rig(tmp_path, workers=1) as made:
        [gateway] = made.gateways
        for epoch, state, code in ((2, "starting", (503, "no_worker")), (3, "busy", (429, "full"))):
            workers = (Worker("w0", "ws://127.0.0.1:1/ws", state),)
            await made.registry.put_host(Host("h", epoch, SERVICE, "pcm", 1, workers, "link-key", static=True))
            result = await gateway.dialout.place(request("twilio"))
            assert (result.status, result.code) == code


async def test_a_registry_that_goes_away_meanwhile_leaves_no_place_taken(tmp_path, monkeypatch):
    async def away(*_, **__):
        raise RegistryUnavailable

    async with rig(tmp_path) as made:
        gateway = made.gateways[0]
        monkeypatch.setattr(gateway.node.registry, "claim", away)
        result = await gateway.dialout.place(request("twilio"))
        assert (result.status, result.code) == (503, "registry_down")
        assert not gateway.dialout._queue.held, "its place is renewed for ever"


async def test_a_registry_that_is_away_places_no_call(tmp_path):
    async with rig(tmp_path) as made:
        made.registry.down = True
        result = await made.gateways[0].dialout.place(request("twilio"))
        assert (result.status, result.code) == (503, "registry_down")
        assert not made.carriers.requests
