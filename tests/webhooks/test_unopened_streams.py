"""A call whose streams never open is given up after a few rounds, and no other."""

from __future__ import annotations

import pytest

from gateway.pool.registry import Host
from gateway.webhooks.resume import MAX_UNOPENED
from tests.kit.node import SERVICE
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, path_in, ring


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


async def come_back(gateway, carrier: str, query: str) -> tuple[str, str]:
    """The carrier asks what is next, as its flow or our markup lead it.

    Returns the path of the next stream, "" if there is none, and the query that leads back here.
    """
    if carrier == "exotel":  # the URLs stand in the flow, which cannot count
        asked = {**WIRES[carrier].voice, "Stream[Status]": "failed", "Stream[Error]": "connection failed"}
        answer = await gateway.http.get("/webhooks/exotel/resume", params=asked)
        return (await ring(gateway, carrier) if answer.status_code == 302 else ""), ""
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    if carrier == "plivo":
        form["Event"] = "Redirect"
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume{query}", data=form)
    return path_in(answer.text), "?" + answer.text.partition("/resume?")[2].partition("<")[0].replace("&amp;", "&")


async def test_a_stream_that_never_opens_is_given_up(gateway, carrier):
    await ring(gateway, carrier)
    query, rounds = "?gw_attempt=1", 0
    while rounds < 30:
        path, query = await come_back(gateway, carrier, query)
        rounds += 1
        if not path:
            break
    assert rounds == MAX_UNOPENED
    assert gateway.node.rejected["resume", "stream_never_opened"] == 1


async def break_after_start(gateway, carrier: str, path: str, streams: int) -> None:
    stream = await gateway.open(path)
    stream.send(dict(WIRES[carrier].start))
    session = await until(lambda: next(iter(gateway.sessions), None))
    await until(lambda: session.facts.streams == streams)
    stream.socket.abort()
    await until(lambda: session.stream is None)


async def test_streams_that_open_and_break_are_not_counted(gateway, carrier):
    path, query = await ring(gateway, carrier), "?gw_attempt=1"
    for streams in range(1, MAX_UNOPENED + 3):
        await break_after_start(gateway, carrier, path, streams)
        path, query = await come_back(gateway, carrier, query)
        assert path


async def test_streams_of_a_held_caller_are_not_counted(gateway, carrier):
    """They open, though no worker is there to confirm an attempt."""
    [state] = gateway.memory._hosts.values()
    await gateway.memory.put_host(Host("h", 1, SERVICE, "pcm", 0, state.host.workers, "link-key"))
    path, query = await ring(gateway, carrier), "?gw_attempt=1"
    for streams in range(1, MAX_UNOPENED + 3):
        await break_after_start(gateway, carrier, path, streams)
        path, query = await come_back(gateway, carrier, query)
        assert path


async def test_a_long_call_that_comes_back_to_a_full_pool_is_held(gateway, carrier):
    """Exotel's comes back by way of /voice, long after it was first heard of."""
    await break_after_start(gateway, carrier, await ring(gateway, carrier), 1)
    await gateway.memory.put_host(Host("h", 1, SERVICE, "pcm", 0, (), "link-key"))
    first_heard = gateway.node.unix_time()
    gateway.node.unix_time = lambda: first_heard + 2 * gateway.node.leases.reserved
    path, _ = await come_back(gateway, carrier, "?gw_attempt=1")
    assert path
