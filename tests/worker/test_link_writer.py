"""What a bot says while there is no link, and what the next link is told of it."""

from __future__ import annotations

import json

import pytest

from gateway.protocol import pcm
from gateway.worker.conversation import Conversation
from gateway.worker.link_writer import MAX_PENDING, LinkWriter

START = pcm.Start("s1", "support.acme", "twilio", 7, {"from": "+15550100"}, 16000)


class Socket:
    """A link's, that remembers."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []

    def send(self, data: str | bytes) -> None:
        self.sent.append(data)

    @property
    def told(self) -> list[dict]:
        return [json.loads(each) for each in self.sent if isinstance(each, str)]


@pytest.fixture
def writer() -> LinkWriter:
    return LinkWriter(Conversation(START))


def test_what_is_said_without_a_link_is_sent_on_the_next_in_order(writer) -> None:
    writer.say(pcm.SetMark("one"))
    writer.say(pcm.Clear())
    socket = Socket()
    writer.attach(socket)
    assert [message["type"] for message in socket.told] == ["mark", "clear"]


@pytest.mark.parametrize("end", [pcm.Hangup("done"), pcm.Transfer("+15550100009")])
def test_a_bot_that_floods_without_a_link_still_ends_its_call(writer, caplog, end) -> None:
    writer.say(end)
    for number in range(2 * MAX_PENDING):
        writer.say(pcm.SetMark(str(number)))
    socket = Socket()
    writer.attach(socket)
    told = socket.told
    assert len(told) == MAX_PENDING and told[0]["type"] in ("hangup", "transfer")
    assert told[-1]["name"] == str(2 * MAX_PENDING - 1), "the newest are kept"
    assert len(caplog.records) == 1


def test_ends_without_number_are_bounded_too(writer) -> None:
    for number in range(2 * MAX_PENDING):
        writer.say(pcm.Hangup(str(number)))
    socket = Socket()
    writer.attach(socket)
    assert len(socket.told) == MAX_PENDING
