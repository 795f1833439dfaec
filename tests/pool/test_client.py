"""The registry as a node uses it: what it notes of failures."""

from __future__ import annotations

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.client import RegistryClient
from gateway.pool.facts import FactEvent
from gateway.pool.memory.registry import MemoryRegistry
from tests.pool.kit import SERVICE


async def test_a_wait_that_finds_the_registry_down_counts_as_a_failure():
    registry, reasons = MemoryRegistry(), []
    client = RegistryClient(registry, on_failure=reasons.append)
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        await client.wait_free(SERVICE, 0.01)
    assert reasons == ["unavailable"]
    assert client.registry_failed.is_set()


async def test_what_is_merged_is_told_as_it_is_then():
    told = []
    client = RegistryClient(MemoryRegistry(), on_facts=told.append)
    await client.merge("s1", FactEvent(call_id="CA1"))
    facts = await client.merge("s1", FactEvent(status="ringing"))
    assert told[1:] == [facts] and (facts.call_id, facts.status) == ("CA1", "ringing")
