"""Any interleaving of what nodes, hosts and clocks can do keeps what the registry is for.

The machine is the world as it would be with the right answers: it knows the fences that were given and the calls that
run. After each step: no worker is held by two sessions, used = live claims, used <= cap, each session's fences grow,
and at most one confirmed holder per session is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.registry import Claim, Full, Queued, Stale
from gateway.protocol.workers import Running
from tests.pool.kit import LEASES, SERVICE, Memory, Redis, host, worker

CAP = 2
HOSTS = ("h1", "h2", "static")
sessions = st.sampled_from([f"s{n}" for n in range(5)])
hosts = st.sampled_from(HOSTS)
states = st.sampled_from(["ready", "ready", "starting", "busy", "done"])
avoids = st.sets(st.sampled_from([f"{h}-w{n}" for h in HOSTS for n in range(CAP)]), max_size=2)


class Interleavings(RuleBasedStateMachine):
    world_of = Memory
    url = ""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = self.do(self.make())
        self.epochs = Counter()
        self.workers = {name: {} for name in HOSTS}
        self.fences = {}
        """Session -> every fence that was given, in order, with its claim."""
        self.pending = {}
        self.let_go = {}
        """Session -> the fences that were released while they were its newest."""
        self.facts = {}
        self.down = False

    async def make(self):
        return self.world_of(self.url)

    def do(self, question):
        return self.loop.run_until_complete(question)

    def ask(self, question):
        """The answer, or None while the registry is cut off."""
        if not self.down:
            return self.do(question)
        with pytest.raises(RegistryUnavailable):
            self.do(question)
        return None

    @property
    def registry(self):
        return self.world.registry

    def said(self, name):
        return [worker(w, state) for w, state in self.workers[name].items()]

    # Hosts.

    @initialize()
    def start(self):
        for name in HOSTS:
            self.epochs[name] = 1
            self.workers[name] = {f"{name}-w{n}": "ready" for n in range(CAP)}
            self.do(self.registry.put_host(self.host(name)))

    def host(self, name):
        return host(*self.said(name), name=name, cap=CAP, epoch=self.epochs[name], static=name == "static")

    @rule(name=hosts, born=st.booleans(), states=st.lists(states, max_size=CAP), data=st.data())
    def put_host(self, name, born, states, data):
        """A host starts, or registers again: with the calls that its workers have, or forgetting some."""
        if born or not self.epochs[name]:
            self.epochs[name] += 1
            self.workers[name] = {f"{name}-w{n}": state for n, state in enumerate(states)}
        running = []
        for w in self.workers[name]:
            served = [c for given in self.fences.values() for c in given if c.worker is not None and c.worker.id == w]
            if served and data.draw(st.booleans()):
                claim = data.draw(st.sampled_from(served))
                running.append(Running(claim.session, claim.fence, w))
        self.ask(self.registry.put_host(self.host(name), running))

    @rule(name=hosts, states=st.lists(states, min_size=CAP, max_size=CAP))
    def beat(self, name, states):
        self.workers[name] = {f"{name}-w{n}": state for n, state in enumerate(states)}
        waiting = self.ask(self.registry.beat(name, self.epochs[name], self.said(name)))
        assert waiting is None or len(waiting) <= CAP

    @rule(name=hosts)
    def drop_host(self, name):
        self.ask(self.registry.drop_host(name, self.epochs[name]))

    @rule(name=hosts)
    def drain_host(self, name):
        self.ask(self.registry.drain_host(name, self.epochs[name]))

    # Claims.

    @rule(session=sessions, avoid=avoids, queue=st.booleans())
    def claim(self, session, avoid, queue):
        result = self.ask(self.registry.claim(SERVICE, session, avoid=avoid, queue=queue))
        if isinstance(result, Claim):
            assert result.worker is None or result.worker.id not in avoid
            assert result.attempt >= self.pending.get(session, 0)
            self.pending[session] = result.attempt
        elif isinstance(result, Queued):
            assert queue and result.position >= 1
        else:
            assert result is None or (isinstance(result, Full) and not queue)

    @rule(session=sessions)
    def serve(self, session):
        self.claim(session, set(), False)
        self.confirm(session, 0)

    @rule(session=sessions, back=st.integers(0, 2))
    def confirm(self, session, back):
        attempt = self.pending.get(session, 0) - back
        result = self.ask(self.registry.confirm(session, attempt))
        if isinstance(result, Claim):
            given = self.fences.setdefault(session, [])
            assert not given or result.fence > given[-1].fence
            assert not any(before.attempt == attempt for before in given), "an attempt confirmed twice"
            given.append(result)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def renew(self, data):
        chosen = {session: data.draw(st.sampled_from(given)).fence for session, given in self.fences.items()}
        lost = self.ask(self.registry.renew(chosen))
        if lost is not None:
            for session, given in self.fences.items():
                assert session in lost or chosen[session] == given[-1].fence, "an older fence was renewed"

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), unconfirmed=st.booleans())
    def release(self, data, unconfirmed):
        session = data.draw(st.sampled_from(sorted(self.fences)))
        claim = data.draw(st.sampled_from(self.fences[session]))
        newest = self.fences[session][-1]
        before = self.ask(self.registry.get_claim(session, newest.fence))
        self.ask(self.registry.release(session, 0 if unconfirmed else claim.fence))
        if isinstance(before, Claim):
            after = self.do(self.registry.get_claim(session, newest.fence))
            kept = unconfirmed or claim is not newest
            assert isinstance(after, Claim) == kept, "a wrong fence released, or the right one did not"
            if not kept:
                self.let_go.setdefault(session, []).append(claim.fence)

    @rule(session=sessions)
    def leave(self, session):
        self.ask(self.registry.leave_queue(SERVICE, session))

    @rule(session=sessions, starts=st.integers(0, 3), status=st.sampled_from(["", "ringing", "streaming"]))
    def merge(self, session, starts, status):
        event = FactEvent(starts=starts, status=status)
        facts = self.ask(self.registry.merge(session, event))
        if facts is not None:
            self.facts[session] = merge(self.facts.get(session, Facts(session=session)), event)
            assert facts == self.facts[session]

    # Time and trouble.

    @rule(turns=st.integers(1, 8))
    def go_on(self, turns):
        """All is well: hosts beat, nodes renew."""
        for _ in range(turns):
            self.do(self.world.clock.advance(LEASES.beat))
            for name in HOSTS:
                if self.ask(self.registry.beat(name, self.epochs[name], self.said(name))) is None:
                    self.ask(self.registry.put_host(self.host(name)))
            self.ask(self.registry.renew({session: given[-1].fence for session, given in self.fences.items()}))

    @rule(seconds=st.sampled_from([0.5, LEASES.queued, LEASES.host + 1, LEASES.confirmed + 1, 31.0]))
    def advance(self, seconds):
        self.do(self.world.clock.advance(seconds))

    @precondition(lambda self: not self.down)
    @rule(seconds=st.sampled_from([0.5, 7.0, 31.0]), session=sessions)
    def outage(self, seconds, session):
        self.cut()
        self.claim(session, set(), False)
        self.advance(seconds)
        self.mend()

    def cut(self):
        self.do(self.world.cut())
        self.down = True

    def mend(self):
        self.do(self.world.mend())
        self.do(self.world.clock.advance(1.1))  # the breaker's second
        self.down = False

    @invariant()
    def holds(self):
        held = {}
        for session, given in self.fences.items():
            live = [
                c for c in (self.do(self.registry.get_claim(session, claim.fence)) for claim in given) if is_live(c)
            ]
            assert len(live) <= 1, "two holders of one session"
            if live:
                assert live[0].fence == given[-1].fence
                held[session] = live[0]
                assert live[0].fence not in self.let_go.get(session, ()), "released, and there again"
        workers = [claim.worker.id for claim in held.values() if claim.worker is not None]
        assert len(workers) == len(set(workers)), "one worker, two sessions"
        self.count(held)

    def count(self, held):
        slots = self.do(self.registry.slots(SERVICE))
        assert slots.used <= CAP * len(HOSTS)
        assert slots.used >= len(held), "a live claim that is not counted"
        state = self.world.counts()
        for name, (used, cap, by_session, taken) in self.do(state).items():
            assert used == len(by_session), f"{name}: used is not the number of live claims"
            assert cap is None or used <= cap, f"{name}: over its cap"
            assert len(taken) == len(set(taken)), f"{name}: one worker, two sessions"
        everywhere = [s for _, _, by_session, _ in self.do(self.world.counts()).values() for s in by_session]
        assert len(everywhere) == len(set(everywhere)), "one session, two units"
        assert set(held) <= set(everywhere)

    def teardown(self):
        if self.down:
            self.mend()
        self.do(self.run_out())
        self.do(self.world.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def run_out(self):
        """All that was held or waited for runs out by itself: nothing is lost for longer than its lease."""
        for _ in range(4):
            await self.world.clock.advance(LEASES.reserved + 1)
            slots = await self.world.registry.slots(SERVICE)
        assert (slots.cap, slots.used, slots.queued) == (0, 0, 0)
        assert not any(by_session for _, _, by_session, _ in (await self.world.counts()).values())


def is_live(result) -> bool:
    assert isinstance(result, Claim | Stale)
    return isinstance(result, Claim)


def test_in_memory():
    run_state_machine_as_test(Interleavings, settings=settings(max_examples=80, stateful_step_count=60, deadline=None))


def test_on_redis(redis_url):
    class OnRedis(Interleavings):
        world_of = Redis
        url = redis_url

    run_state_machine_as_test(
        OnRedis,
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
