"""What one version writes, an older one reads; and what no version wrote is refused."""

from __future__ import annotations

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadAnswer
from gateway.pool.facts import Continuation, FactEvent, Facts, merge
from gateway.pool.redis import codec
from gateway.pool.redis.codec import read_facts, read_worker, write_facts, write_worker
from gateway.protocol.workers import Worker

FACTS = Facts(
    session="s1",
    status="ending",
    outcome="no-answer",
    cold=True,
    hold_ms=20,
    state=b"\x00\xff",
    continuation=Continuation("dial", "+15550123", 3),
)


def test_facts_are_read_as_they_were_written():
    assert read_facts(write_facts(FACTS, {"b", "a"})) == (FACTS, frozenset({"a", "b"}))


def test_fields_of_a_newer_version_are_left_out():
    record = orjson.loads(write_facts(FACTS, ()))
    record["facts"]["mood"] = "good"
    record["facts"]["continuation"]["after"] = 5
    record["since"] = 1
    assert read_facts(orjson.dumps(record).decode()) == (FACTS, frozenset())


def test_a_body_that_orjson_cannot_write():
    facts = Facts(session="s1", body={"big": 2**70, "half": "\ud800"})
    assert read_facts(write_facts(facts, ()))[0] == facts


def test_workers():
    worker = Worker("w1", "unix:/run/w1.sock", "busy", "s1")
    assert read_worker(write_worker(worker)) == worker


def test_facts_of_an_older_version_lack_fields():
    assert read_facts('{"facts": {"session": "s1"}, "aliases": []}') == (Facts(session="s1"), frozenset())
    assert read_worker('["w1","ws://10.0.0.7:1/ws","busy","s1"]') == Worker("w1", "ws://10.0.0.7:1/ws", "busy", "s1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Facts.__dataclass_fields__, "mood"])


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_read_or_refused(text):
    for read in (read_facts, read_worker):
        try:
            read(text)
        except BadAnswer:
            pass


@given(st.dictionaries(FIELDS, JSON | st.just("aGk="), max_size=3), JSON | st.just([]))
def test_facts_that_are_read_can_be_merged_and_written(fields, aliases):
    record = orjson.loads(write_facts(FACTS, ["a"]))
    record["facts"] |= fields
    record["aliases"] = aliases
    try:
        facts, named = read_facts(json.dumps(record))
    except BadAnswer:
        return
    for event in (FactEvent(status="ended", ended=5.0, state=b"x", state_seq=9), FactEvent()):
        again, _ = read_facts(write_facts(merge(facts, event), named))
        assert again.status in ("ended", facts.status)


@given(JSON)
def test_a_worker_of_anything_is_read_or_refused(anything):
    for at in range(7):
        fields = ["w1", "unix:/run/w1.sock", "busy", "s1", "", 150, 2**30]
        fields[at] = anything
        try:
            worker = read_worker(json.dumps(fields))
        except BadAnswer:
            continue
        assert all(isinstance(value, str) for value in (worker.id, worker.url, worker.session, worker.address))
        assert worker.state in ("starting", "ready", "busy", "done")


@given(JSON)
def test_any_answer_is_read_or_refused(answer):
    """As redis-py gives it: numbers, text, None, lists, and errors in lists."""
    for read in (
        codec.read_text,
        codec.read_texts,
        codec.read_count,
        codec.read_flag_and_names,
        codec.read_found,
        codec.read_slots,
        lambda answer: codec.read_counts(answer, 2),
        lambda answer: codec.read_claim("a.b", "s1", answer),
        lambda answer: codec.read_claim_result("a.b", "s1", answer),
        lambda answer: codec.read_set_result(answer, "v"),
    ):
        for given_answer in (answer, [answer], ["claim", answer], [answer] * 2, [ValueError("ERR")]):
            try:
                read(given_answer)
            except BadAnswer:
                pass
