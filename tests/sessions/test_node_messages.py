"""What comes in a node's mailbox is done, message by message."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.protocol.codes import EndReason
from gateway.sessions.node_messages import NodeMessage, read_mailbox
from tests.kit.waiting import until


async def test_a_bug_in_one_message_loses_no_other(gateway, monkeypatch):
    """A mailbox is emptied as it is read."""
    await gateway.call()
    await gateway.started()
    [session] = gateway.sessions

    def failing(_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(session, "learn", failing)
    for message in (
        NodeMessage("answered_by", session.id, "human"),
        NodeMessage("end", session.id, EndReason.CALLER_HANGUP),
    ):
        await gateway.memory.send(gateway.node.id, message.encode())
    with capture_logs() as logs:
        reading = gateway.node.spawn(read_mailbox(gateway.sessions), "mailbox")
        await until(lambda: session.ended)
        reading.cancel()
    assert session.ended == EndReason.CALLER_HANGUP
    assert [line["kind"] for line in logs if line["log_level"] == "error"] == ["answered_by"]
