"""What one version writes, an older one reads."""

from __future__ import annotations

import orjson

from gateway.pool.facts import Continuation, Facts
from gateway.pool.redis.codec import read_facts, read_worker, write_facts, write_worker
from gateway.protocol.workers import Worker

FACTS = Facts(session="s1", status="ending", state=b"\x00\xff", continuation=Continuation("dial", "+15550123", 3))


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
