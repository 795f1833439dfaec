"""`/v1/calls/{session_id}/hangup`, `/transfer`, `/dtmf`."""

from __future__ import annotations

from gateway.api.models import DtmfRequest, HangupRequest, Ordered, TransferRequest
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem, not_found, wrong_field
from gateway.sessions import control
from gateway.sessions.control import Done, NoAnswer, NoNumber, NotAllowed, NotPossible, UnknownSession

NO_SUCH_CALL = "There is no such call, or it has been forgotten"


async def hangup(api: Api, asked: Asked) -> Reply | Problem:
    """End a call."""
    body: HangupRequest = asked.body
    session = asked.path["session_id"]
    outcome = await control.hang_up(api.sessions, session, at_once=body.at_once)
    if isinstance(outcome, UnknownSession) and api.store is not None and await api.store.get(session) is not None:
        outcome = Done(ended=True)  # so long ago that only its record is left
    return answer(session, outcome)


async def transfer(api: Api, asked: Asked) -> Reply | Problem:
    """Hand a call over to another number."""
    body: TransferRequest = asked.body
    session = asked.path["session_id"]
    return answer(session, await control.transfer(api.sessions, session, body.to))


async def dtmf(api: Api, asked: Asked) -> Reply | Problem:
    """Press keys in a call."""
    body: DtmfRequest = asked.body
    session = asked.path["session_id"]
    return answer(session, await control.press(api.sessions, session, body.digits))


def answer(session: str, outcome: control.Outcome | NotAllowed | NoNumber) -> Reply | Problem:
    """Write what came of an order."""
    match outcome:
        case Done(ended):
            status = "ended" if ended else "accepted"
            return Reply(200 if ended else 202, Ordered(session_id=session, status=status))
        case NotPossible(reason):
            return Problem(409, _sentence(reason), "not_possible")
        case NoAnswer(reason):
            return Problem(504, _sentence(reason), "no_answer")
        case NotAllowed(reason):
            return Problem(403, _sentence(reason), "not_allowed")
        case NoNumber(reason):
            return wrong_field("to", reason)
        case UnknownSession():
            return not_found(NO_SUCH_CALL)


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}".rstrip(".") + "."
