"""What nodes tell each other of sessions, by mailboxes in the registry.

A carrier's webhook comes to any node, while the call's stream runs on one: that node must hear what the webhook said,
and can be asked whether it still hears the caller. Each node reads its own mailbox ten times a second. A message is a
hint: what must not be lost is in the facts, too.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import orjson
import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import FactEvent
from gateway.protocol.codes import EndReason
from gateway.sessions.events import OrderKind
from gateway.sessions.hearing import HEARD_WITHIN, is_heard
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions

log = structlog.get_logger(__name__)

READ_EVERY = 0.1
"""Seconds between two looks into a mailbox."""
RETRY_AFTER = 1.0
"""Seconds until a registry that did not answer is asked again. A question `is_heard` is over by then; all else is in
the facts, too."""
ANSWER_WITHIN = 0.4
"""Seconds in which a node that lives says that it has read the question: four looks into its mailbox."""

LOOKING, HEARD, SILENT = "looking", "heard", "silent"
"""Answers to "is_heard": the first says that the node lives, and is to be followed by one of the others."""
_TAKEN, _WITHDRAWN = "taken", "withdrawn"
ORDER_MEMORY = 120.0
"""Seconds that it is remembered whether an order was taken, or withdrawn: as long as any node may read it late."""

Kind = Literal["answered_by", "end", "is_heard", OrderKind]
_REASONS = frozenset(EndReason)
_ORDERS = frozenset(get_args(OrderKind))
_KINDS = frozenset({"answered_by", "end", "is_heard"}) | _ORDERS


@dataclass(frozen=True, slots=True)
class Taken:
    """The session has taken the order."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The session refuses the order. reason: a clause."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotThere:
    """The session does not run on that node."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The node did not answer in time, and the order is not carried out any more."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The node did not say in time what it did: the order may have been carried out."""


OrderResult: TypeAlias = Taken | Refused | NotThere | Withdrawn | Uncertain


@dataclass(frozen=True, slots=True)
class NodeMessage:
    """A message from one node to another about a session.

    value: who answered, why the session ends, or the mailbox for the answer. For an order: the mailbox, a space, and
    the order's value.
    """

    kind: Kind
    session: str
    value: str

    def encode(self) -> str:
        return orjson.dumps([self.kind, self.session, self.value]).decode()


def decode(text: str) -> NodeMessage | None:
    """Read a message; None if it is none of ours.

    Another version of us may have written it. Never raises.
    """
    try:
        fields = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):  # the second: lone surrogates
        return None
    if not isinstance(fields, list) or len(fields) != 3 or not all(isinstance(field, str) for field in fields):
        return None
    return NodeMessage(*fields) if fields[0] in _KINDS else None


async def tell(sessions: Sessions, node_id: str, message: NodeMessage) -> None:
    """Tell the session, here or on the node where its stream runs.

    node_id: `Facts.node`. Raises RegistryUnavailable.
    """
    _handle(sessions, message)
    # A session that wraps up here, or waits here in vain, has lost the call to that node.
    session = sessions.running(message.session)
    served_here = session is not None and session.stream is not None
    if not served_here and node_id not in ("", sessions.node.id):
        await sessions.node.registry.send(node_id, message.encode())


async def read_mailbox(sessions: Sessions) -> None:
    """Read this node's mailbox, and do what the messages say, until cancelled."""
    node = sessions.node
    while True:
        await asyncio.sleep(READ_EVERY)
        try:
            for text in await node.registry.receive(node.id):  # without sessions too: who asks takes silence for death
                if (message := decode(text)) is not None:
                    _handle_each(sessions, message)
        except RegistryUnavailable:
            await asyncio.sleep(RETRY_AFTER)
        except Exception:
            log.exception("the mailbox was not read: a bug; the next round may go better")


def _handle_each(sessions: Sessions, message: NodeMessage) -> None:
    """Do what a message says. A bug in one must not lose those that came with it."""
    try:
        _handle(sessions, message)
    except Exception:
        log.exception("a message was not handled: a bug", kind=message.kind, session=message.session)


def _handle(sessions: Sessions, message: NodeMessage) -> None:
    session = sessions.get(message.session)
    match message.kind:
        case "is_heard":
            sessions.node.spawn(_answer(sessions, message), f"is {message.session} heard")
        case "answered_by" if session is not None:
            session.learn(FactEvent(answered_by=message.value))
        case "end" if session is not None and message.value in _REASONS:
            session.end(EndReason(message.value))
        case "hangup" | "transfer" | "digits" | "pause_recording" | "resume_recording":
            sessions.node.spawn(_obey(sessions, message, message.kind), f"{message.kind} {message.session}")


async def _answer(sessions: Sessions, question: NodeMessage) -> None:
    """Say at once that we live, and then whether the session's caller is heard."""
    registry, session = sessions.node.registry, sessions.running(question.session)
    try:
        await registry.send(question.value, LOOKING)
        heard = session is not None and await is_heard(session)
        await registry.send(question.value, HEARD if heard else SILENT)
    except RegistryUnavailable:
        pass  # the asking node gives up by itself


async def _obey(sessions: Sessions, message: NodeMessage, kind: OrderKind) -> None:
    """Give the session an order from another node, and say whether it is taken. Not one that was withdrawn."""
    answers, _, value = message.value.partition(" ")
    registry = sessions.node.registry
    try:
        if not (await registry.set_if_absent(_order_key(answers), ORDER_MEMORY, _TAKEN)).first:
            log.warning("an order came too late", session=message.session, order=kind)
            return
        session, client = sessions.running(message.session), sessions.clients.get(message.session)
        if client is not None and kind == "hangup":
            client.end(EndReason.API_HANGUP)
            await registry.send(answers, _encode(Taken()))
            return
        result = give_order(session, kind, value) if session is not None else NotThere()
        await registry.send(answers, _encode(result))
    except RegistryUnavailable:
        pass  # the asking node finds out whether it was taken


def give_order(session: Session, kind: OrderKind, value: str) -> Taken | Refused:
    """Give an order to a session of this node."""
    refusal = session.orders.take(kind, value)
    return Refused(refusal) if refusal else Taken()


async def order_elsewhere(node: Node, session: str, node_id: str, kind: OrderKind, value: str) -> OrderResult:
    """Give another node's session an order. node_id: `Facts.node`. Raises RegistryUnavailable."""
    registry, answers = node.registry, f"answers:{secrets.token_hex(8)}"
    await registry.send(node_id, NodeMessage(kind, session, f"{answers} {value}").encode())
    answer = await _answer_to(node, answers, node.limits.order_timeout)
    if answer is not None:
        return _decode(answer)
    log.warning("the node of this session's stream does not answer", session=session, order=kind)
    if (await registry.set_if_absent(_order_key(answers), ORDER_MEMORY, _WITHDRAWN)).first:
        return Withdrawn()
    answer = await _answer_to(node, answers, ANSWER_WITHIN)  # it was taken at the last moment
    return Uncertain() if answer is None else _decode(answer)


def _encode(result: Taken | Refused | NotThere) -> str:
    match result:
        case Taken():
            return "taken"
        case NotThere():
            return "not there"
        case Refused(reason):
            return f"refused {reason}"


def _decode(answer: str) -> OrderResult:
    """Read an answer. What another version of us says is uncertain."""
    kind, _, reason = answer.partition(" ")
    match kind:
        case "taken":
            return Taken()
        case "not":
            return NotThere()
        case "refused":
            return Refused(reason)
    return Uncertain()


async def _answer_to(node: Node, answers: str, seconds: float) -> str | None:
    """Wait for the answer in this mailbox; None if there is none."""
    time = asyncio.get_running_loop().time
    deadline = time() + seconds
    while time() < deadline:
        await asyncio.sleep(READ_EVERY / 2)
        for answer in await node.registry.receive(answers):
            return answer
    return None


def _order_key(answers: str) -> str:
    return f"order:{answers}"


async def is_heard_elsewhere(node: Node, session: str, node_id: str) -> bool:
    """Ask another node whether it hears this session's caller.

    False: no, or that node is dead. node_id: `Facts.node`. Raises RegistryUnavailable.
    """
    time = asyncio.get_running_loop().time
    answers = f"answers:{secrets.token_hex(8)}"
    await node.registry.send(node_id, NodeMessage("is_heard", session, answers).encode())
    deadline = time() + ANSWER_WITHIN
    while time() < deadline:
        await asyncio.sleep(READ_EVERY / 2)
        for answer in await node.registry.receive(answers):
            if answer in (HEARD, SILENT):
                return answer == HEARD
            if answer == LOOKING:
                deadline = time() + HEARD_WITHIN + ANSWER_WITHIN
    log.warning("the node of this session's stream does not answer", session=session)
    return False
