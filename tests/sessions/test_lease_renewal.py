"""Static workers are looked after: ready, busy, silent; and what a node holds is renewed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.node.probe import Probe
from gateway.node.static_workers import probe_static_workers, static_host
from gateway.pool.registry import Claim, Leases, Stale
from gateway.sessions.lease_renewal import renew_claims, resend_after_registry_loss
from gateway.sockets import Refusal, server_protocol
from tests.kit.dribble import dribbling
from tests.kit.listening import stop_listening
from tests.kit.node import PATIENCE
from tests.kit.waiting import until


@pytest.fixture
async def worker():
    """A worker that knows nothing of us: only its /readyz is of interest."""
    answers = {"status": 200}
    protocol = server_protocol(lambda _: Refusal(403), plain=lambda request: Refusal(answers["status"]))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    answers["port"] = server.sockets[0].getsockname()[1]
    answers["server"] = server
    yield answers
    await stop_listening(server)


async def slots_until(gateway, service: str, wanted) -> None:
    async def look() -> bool:
        return wanted(await gateway.memory.slots(service))

    await until(look)


async def test_a_static_worker_is_offered_while_it_says_that_it_is_ready(gateway, worker):
    gateway.node.leases = Leases().scaled(0.02)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    keeper = gateway.node.spawn(probe_static_workers(gateway.node, host), "keep")
    try:
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        worker["status"] = 503
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0 and s.busy == 1)
        worker["status"] = 404  # a bot that has no such page, but is there
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        await stop_listening(worker["server"])
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0)
    finally:
        keeper.cancel()
        await gateway.node.http_client.close()


async def test_a_running_call_on_a_static_worker_survives_a_probe_that_fails(gateway, worker):
    gateway.node.leases = Leases().scaled(0.02)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    keeper = gateway.node.spawn(probe_static_workers(gateway.node, host), "keep")
    try:
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        registry = gateway.memory
        claim = await registry.confirm("s1", (await registry.claim("static.acme", "s1")).attempt)
        await stop_listening(worker["server"])
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0)
        assert isinstance(await registry.get_claim("s1", claim.fence), Claim)
    finally:
        keeper.cancel()
        await gateway.node.http_client.close()


async def test_what_the_sessions_hold_is_renewed_and_what_is_lost_is_let_go(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    gateway.node.leases = Leases().scaled(0.02)
    keeper = gateway.node.spawn(renew_claims(gateway.sessions), "renew")
    try:
        await asyncio.sleep(0.3)
        assert session.ended is None
        newer = await gateway.memory.claim("support.acme", session.id)
        await gateway.memory.confirm(session.id, newer.attempt)
        await carrier.until_closed()
        await until(lambda: not gateway.sessions)
    finally:
        keeper.cancel()


async def test_lost_claims_are_looked_at_together(gateway):
    """One after another, hundreds would keep the claims that are left from being renewed in time."""
    await gateway.call("CA1")
    await gateway.call("CA2")
    await gateway.started(2)
    gateway.node.leases = Leases().scaled(0.02)
    both = asyncio.Barrier(2)

    async def lost(claims):
        return set(claims)

    async def taken_over(*_):
        await both.wait()
        return Stale(spent=True)

    gateway.memory.renew, gateway.memory.get_claim = lost, taken_over
    keeper = gateway.node.spawn(renew_claims(gateway.sessions), "renew")
    await until(lambda: not gateway.sessions)
    keeper.cancel()


# What nobody has thought of.


def fails_at_first(registry, name: str, times: int = 2) -> None:
    """This method raises so often what no registry should raise."""
    method, left = getattr(registry, name), times

    async def failing(*args, **options):
        nonlocal left
        if left:
            left -= 1
            raise ZeroDivisionError("a bug")
        return await method(*args, **options)

    setattr(registry, name, failing)


async def test_claims_are_renewed_on_after_a_bug_in_one_round(gateway):
    await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    gateway.node.leases = Leases().scaled(0.02)
    fails_at_first(gateway.memory, "renew")
    asked = []
    renew = gateway.memory.renew

    async def noting(held):
        lost = await renew(held)
        asked.append(held)
        return lost

    gateway.memory.renew = noting
    with capture_logs() as logs:
        keeper = gateway.node.spawn(renew_claims(gateway.sessions), "renew")
        await until(lambda: asked or keeper.done())
    assert not keeper.done()
    assert asked[0] == {session.id: session.claim.fence}
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [True, True]
    keeper.cancel()


@pytest.mark.parametrize("method", ["beat", "put_host"])
async def test_static_workers_are_looked_after_on_after_a_bug_in_one_round(gateway, worker, method):
    gateway.node.leases = Leases().scaled(0.02)
    fails_at_first(gateway.memory, method)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    with capture_logs() as logs:
        keeper = gateway.node.spawn(probe_static_workers(gateway.node, host), "keep")
        try:
            await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        finally:
            keeper.cancel()
            await gateway.node.http_client.close()
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [True, True]


async def test_static_workers_are_asked_on_after_a_bug_in_one_round(gateway, worker, monkeypatch):
    gateway.node.leases = Leases().scaled(0.02)
    ask, left = Probe.ask, [1]

    def failing(probe):
        if left:
            left.pop()
            raise ZeroDivisionError("a bug")
        ask(probe)

    monkeypatch.setattr(Probe, "ask", failing)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    with capture_logs() as logs:
        keeper = gateway.node.spawn(probe_static_workers(gateway.node, host), "keep")
        try:
            await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        finally:
            keeper.cancel()
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [True]


@pytest.mark.parametrize("loop", ["renew", "tell", "keep"])
async def test_the_end_of_such_a_task_is_its_end(gateway, worker, loop):
    """However its round went: what is cancelled does not go on."""
    gateway.node.leases = Leases().scaled(0.02)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    make = {
        "renew": renew_claims,
        "tell": resend_after_registry_loss,
        "keep": lambda sessions: probe_static_workers(sessions.node, host),
    }
    keeper = gateway.node.spawn(make[loop](gateway.sessions), loop)
    await asyncio.sleep(0.05)
    keeper.cancel()
    await asyncio.wait({keeper}, timeout=PATIENCE)
    assert keeper.cancelled()
    await gateway.node.http_client.close()


@pytest.mark.parametrize("broken", ["dribbles", "no host of that name can be"])
async def test_one_static_worker_that_misbehaves_costs_the_others_nothing(gateway, worker, broken):
    gateway.node.limits = replace(gateway.node.limits, link_timeout=0.1)
    async with dribbling(b"HTTP/1.1 200 OK\r\nx: ") as port:
        url = f"ws://127.0.0.1:{port}/ws" if broken == "dribbles" else "ws://a..b/ws"
        host = static_host("static.acme", "relay", [url, f"ws://127.0.0.1:{worker['port']}/ws"], "")
        keeper = gateway.node.spawn(probe_static_workers(gateway.node, host), "keep")
        try:
            await slots_until(gateway, "static.acme", lambda s: (s.ready, s.starting, s.busy) == (1, 1, 0))
        finally:
            keeper.cancel()
            await gateway.node.http_client.close()


async def test_a_renewal_that_our_own_confirmation_overtook_ends_no_call(gateway):
    """The registry has given the new fence, its answer is on the way, and the old one is renewed meanwhile."""
    carrier = await gateway.call()
    await gateway.started()
    gateway.node.leases = Leases().scaled(0.02)
    [session] = gateway.sessions
    registry, asked, gate = gateway.memory, asyncio.Event(), asyncio.Event()
    confirm = registry.confirm

    async def slow(session_id, attempt):
        claim = await confirm(session_id, attempt)
        asked.set()
        await gate.wait()
        return claim

    registry.confirm = slow
    session.link_dead()
    await asked.wait()
    renewing = asyncio.create_task(renew_claims(gateway.sessions))
    await asyncio.sleep(0.3)  # a renewal or two have found the old fence lost
    assert list(gateway.sessions) == [session]
    gate.set()
    await until(lambda: sum(len(bot.of("start")) for bot in gateway.bots) == 2)
    assert carrier.code is None
    renewing.cancel()


async def test_a_renewal_between_a_claim_and_its_confirmation_ends_no_call(gateway, monkeypatch):
    """The claim has given up the old fence; whoever asks for that one's renewal hears that it is lost."""
    carrier = await gateway.call()
    await gateway.started()
    gateway.node.leases = Leases().scaled(0.02)
    [session] = gateway.sessions
    client = gateway.node.registry
    claim, renew = client.claim, gateway.memory.renew
    gate, lost = asyncio.Event(), asyncio.Event()

    async def slow(*about, **how):
        claimed = await claim(*about, **how)
        await gate.wait()
        return claimed

    async def renewed(claims):
        found = await renew(claims)
        if found:
            lost.set()
        return found

    monkeypatch.setattr(client, "claim", slow)
    gateway.memory.renew = renewed
    gateway.node.registry.suspect(session.claim.worker.id)
    session.link_dead()
    renewing = asyncio.create_task(renew_claims(gateway.sessions))
    await asyncio.wait_for(lost.wait(), PATIENCE)
    await asyncio.sleep(0.05)
    assert list(gateway.sessions) == [session]
    gate.set()
    await gateway.started(2)
    assert carrier.code is None
    renewing.cancel()


async def test_a_session_that_somebody_else_holds_is_let_go(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    gateway.node.leases = Leases().scaled(0.02)
    [session] = gateway.sessions
    again = await gateway.memory.claim("support.acme", session.id)
    await gateway.memory.confirm(session.id, again.attempt)
    renewing = asyncio.create_task(renew_claims(gateway.sessions))
    await carrier.until_closed()
    await until(lambda: bot.closed_with == 4001)
    renewing.cancel()


async def test_a_claim_that_no_node_holds_any_more_ends_no_call(gateway):
    """A bot has closed its link, its process has ended while its last words play, and its host registers again."""
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    gateway.node.leases = Leases().scaled(0.02)
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.socket.send(bytes(32000))  # a second
    bot.socket.close()
    await until(lambda: session.worker.link is None)
    registry, renew, rounds = gateway.memory, gateway.memory.renew, []

    async def noting(held):
        rounds.append(await renew(held))
        return rounds[-1]

    registry.renew = noting
    [state] = registry._hosts.values()
    left = tuple(worker for worker in state.host.workers if worker.id != session.claim.worker.id)
    await registry.put_host(replace(state.host, workers=left))
    renewing = asyncio.create_task(renew_claims(gateway.sessions))
    await until(lambda: sum(lost == {session.id} for lost in rounds) >= 2)
    renewing.cancel()
    assert carrier.code is None
    assert session.ended is None
