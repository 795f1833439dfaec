"""Calls placed at the simulated REST APIs, as each carrier's HTTP side asks and understands: order, webhooks, end."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import pytest

from gateway.carriers import CARRIERS
from gateway.carriers.base import Carrier, HttpRequest, Kind, Verified, Webhook
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, MachineDetection, Placed, RestCall
from gateway.node.http_client import HttpClient, HttpReply, Unanswered
from gateway.simulator.rest import PlacedCall, Plan, SimulatedCarriers
from tests.kit.waiting import PATIENCE, until
from tests.simulator.scripted_gateway import ScriptedGateway

NAMES = ("twilio", "telnyx", "plivo", "exotel")
OURS, CALLEE = "+918047112345", "+919494865411"
QUERY = "gw_session=0123456789abcdef0123456789abcdef&gw_mac=abcdefghijklmnopqrstuv"
NOW = 1_760_000_000.0


@dataclass
class Desk:
    """One carrier's HTTP side, with the simulated carrier before it and a gateway that notes webhooks behind it."""

    carrier: Carrier
    carriers: SimulatedCarriers
    gateway: ScriptedGateway
    client: HttpClient
    read: list[Webhook] = field(default_factory=list)

    def order(self, to: str = CALLEE, detection: MachineDetection = "off") -> CallOrder:
        account = self.carrier.default_account()
        at = f"{self.gateway.url}/webhooks/{self.carrier.name}"
        return CallOrder(
            session="0123456789abcdef0123456789abcdef",
            to=to,
            from_number=OURS,
            answer_url=self.carrier.callback_url(f"{at}/voice?{QUERY}", account),
            status_url=self.carrier.callback_url(f"{at}/status?{QUERY}", account),
            stream_url=f"{self.gateway.url.replace('http', 'ws')}/ws/{self.carrier.name}/t",
            machine_detection=detection,
            ring_seconds=5,
        )

    async def place(self, order: CallOrder, seconds: float = PATIENCE) -> Placed | CarrierRefusal | Unanswered:
        reply = await self.send(self.carrier.place_call(order, self.carrier.default_account()), seconds)
        if not isinstance(reply, HttpReply):
            return reply
        return self.carrier.read_placed(reply.status, reply.body, reply.headers)

    async def send(self, call: RestCall | None, seconds: float = PATIENCE) -> HttpReply | Unanswered:
        assert call is not None
        reply = await self.client.send(call, seconds)
        assert isinstance(reply, HttpReply | Unanswered)
        return reply

    async def state(self, call_id: str) -> CallState:
        reply = await self.send(self.carrier.ask_call(call_id, ""))
        assert isinstance(reply, HttpReply)
        return self.carrier.read_call(reply.status, reply.body)

    def webhooks(self) -> list[Webhook]:
        """What has come in so far, verified and parsed."""
        for seen in self.gateway.requests[len(self.read) :]:
            url = urlsplit(seen.url)
            request = HttpRequest(seen.method, url.path, url.query, seen.headers, seen.body)
            now = float(seen.headers.get("telnyx-timestamp", NOW))
            assert isinstance(self.carrier.verify(request, now=now), Verified)
            webhook = self.carrier.parse(request)
            assert isinstance(webhook, Webhook)
            self.read.append(webhook)
        return self.read

    async def told(self, *, status: str) -> Webhook:
        """The first callback that says so."""
        return await until(
            lambda: next((w for w in self.webhooks() if w.kind is Kind.STATUS and w.status == status), None)
        )

    def dialled(self) -> list[PlacedCall]:
        return list(self.carriers.calls)


@pytest.fixture(params=NAMES)
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with ScriptedGateway() as gateway, SimulatedCarriers(plan=Plan(rings=0.02)) as carriers:
        settings = tomllib.loads(carriers.settings())["carriers"][request.param]
        plugin = CARRIERS[request.param]
        if request.param == "exotel":
            settings["flow_id"] = "926"
        carrier = plugin.carrier(plugin.config.model_validate(settings), public_url=gateway.url)
        client = HttpClient()
        yield Desk(carrier, carriers, gateway, client)
        await client.close()


def is_named(placed: object, desk: Desk) -> bool:
    """Whether the answer names the call that was dialled."""
    (call,) = desk.dialled()
    return placed == (Placed(alias=call.alias) if call.alias else Placed(call.call_id))


async def test_a_call_is_answered_and_ended_by_the_callee(desk: Desk) -> None:
    desk.carriers.plan = Plan(rings=0.02, seconds=0.1)
    placed = await desk.place(desk.order())
    assert is_named(placed, desk)
    (call,) = desk.dialled()
    assert (call.to, call.order.from_number) == (CALLEE, OURS)
    await desk.carriers.ended()
    voice = next(w for w in desk.webhooks() if w.kind is Kind.VOICE)
    ended = await desk.told(status="ended")
    for webhook in (voice, ended):
        assert webhook.call_id == call.call_id
        assert (webhook.from_number, webhook.to_number) == (OURS, CALLEE)
        assert (webhook.own.session, webhook.own.mac) == (desk.order().session, "abcdefghijklmnopqrstuv")
        assert webhook.custom_params == {}
    assert ended.outcome == "completed"
    state = await desk.state(call.call_id)
    assert (state.status, state.outcome) in (("ended", "completed"), ("ended", ""))
    assert state.duration in (None, call.seconds)
    assert state.ended == 0.0 or abs(state.ended - call.end_time.timestamp()) < 1.1


@pytest.mark.parametrize(
    ("plan", "outcome"),
    [
        (Plan(rings=0.02, result="busy"), "busy"),
        (Plan(result="no-answer", gives_up=0.05), "no-answer"),
        (Plan(rings=0.02, result="failed"), "failed"),
    ],
)
async def test_a_call_that_is_not_answered(desk: Desk, plan: Plan, outcome: str) -> None:
    desk.carriers.plan = plan
    assert isinstance(await desk.place(desk.order()), Placed)
    await desk.carriers.ended()
    ended = await desk.told(status="ended")
    assert (ended.outcome, ended.own.session) == (outcome, desk.order().session)
    assert (ended.from_number, ended.to_number) == (OURS, CALLEE)
    assert [w for w in desk.webhooks() if w.kind is Kind.VOICE] == []


async def test_a_ringing_call_is_ended_where_that_can_be(desk: Desk) -> None:
    desk.carriers.plan = Plan(rings=60.0)
    placed = await desk.place(desk.order())
    assert isinstance(placed, Placed)
    request = desk.carrier.cancel_call(placed.call_id, placed.alias, "")
    assert (request is not None) is desk.carrier.can.cancel_ringing
    if request is not None:
        assert await desk.client.ask(request, seconds=PATIENCE)
        await desk.carriers.ended()
        assert (await desk.told(status="ended")).outcome == "canceled"
        assert await desk.client.ask(request, seconds=PATIENCE)  # over already


async def test_a_call_that_talks_is_asked_for_and_ended(desk: Desk) -> None:
    assert isinstance(await desk.place(desk.order()), Placed)
    call = await until(lambda: next((c for c in desk.dialled() if c.report.frames_received), None))
    assert await desk.state(call.call_id) == CallState("answered")
    if (request := desk.carrier.hang_up(call.call_id, "")) is not None:
        assert await desk.client.ask(request, seconds=PATIENCE)
        await desk.carriers.ended()
        assert (await desk.told(status="ended")).outcome == "completed"
        assert await desk.client.ask(request, seconds=PATIENCE)  # over already


@pytest.mark.parametrize("party", ["human", "machine"])
async def test_who_answered_is_told_while_they_talk(desk: Desk, party: str) -> None:
    if not desk.carrier.can.machine_detection:
        return
    desk.carriers.plan = replace(Plan(rings=0.02, verdict=0.05), party=party)
    await desk.place(desk.order(detection="detect"))
    webhook = await until(lambda: next((w for w in desk.webhooks() if w.answered_by), None))
    assert (webhook.answered_by, webhook.kind, webhook.own.session) == (party, Kind.STATUS, desk.order().session)
    assert next(w for w in desk.webhooks() if w.kind is Kind.VOICE).answered_by == ""  # nobody waited for it


@pytest.mark.parametrize(
    ("create", "kind"),
    [
        ("invalid", "invalid"),
        ("forbidden", "refused"),
        ("unauthorized", "auth"),
        ("rate", "rate"),
        ("error", "unavailable"),
        ("unavailable", "unavailable"),
    ],
)
async def test_a_refusal_has_its_kind_code_and_text(desk: Desk, create: str, kind: str) -> None:
    desk.carriers.plan = replace(Plan(), create=create)
    refusal = await desk.place(desk.order())
    assert isinstance(refusal, CarrierRefusal)
    assert refusal.kind == kind
    assert refusal.code
    assert refusal.text not in ("", f"HTTP status {refusal.code}")
    assert desk.dialled() == []


async def test_wrong_credentials_are_told_from_a_bad_order(desk: Desk) -> None:
    settings = desk.carrier.config.accounts[0].model_copy(
        update={
            name: (type(value[0])("wrong"),)
            for name, value in desk.carrier.config.accounts[0]
            if name in ("auth_token", "api_key", "api_token") and value
        }
    )
    config = desk.carrier.config.model_copy(update={"accounts": (settings,)})
    desk.carrier = type(desk.carrier)(config, public_url=desk.gateway.url)
    refusal = await desk.place(desk.order())
    assert isinstance(refusal, CarrierRefusal)
    assert refusal.kind == "auth"


@pytest.mark.parametrize(("create", "dialled"), [("unanswered", 1), ("lost", 0)])
async def test_silence_says_nothing_of_what_was_done(desk: Desk, create: str, dialled: int) -> None:
    desk.carriers.plan = Plan(rings=0.01, result="busy")
    assert isinstance(await desk.place(desk.order()), Placed)  # the first order imports an SDK, which may take seconds
    before = len(desk.dialled())
    desk.carriers.plan = replace(Plan(rings=60.0), create=create)
    assert await desk.place(desk.order(), seconds=2.0) == Unanswered("TimeoutError")
    assert len(desk.dialled()) == before + dialled


async def test_a_ringing_call_is_ended_by_the_id_that_a_webhook_told(desk: Desk) -> None:
    if not desk.carrier.can.cancel_ringing:
        return
    desk.carriers.plan = Plan(rings=60.0)
    placed = await desk.place(desk.order())
    assert isinstance(placed, Placed)
    ringing = await desk.told(status="ringing")
    request = desk.carrier.cancel_call(ringing.call_id, placed.alias, "")
    assert request is not None
    assert await desk.client.ask(request, seconds=PATIENCE)
    await desk.carriers.ended()
    assert (await desk.told(status="ended")).outcome == "canceled"
