"""`DELETE /v1/callers/{number}`: forget a number."""

from __future__ import annotations

import asyncio
import re

from gateway.api.models import E164, ForgottenNumber
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem, wrong_field
from gateway.sessions.recording import remove_recordings


async def forget(api: Api, asked: Asked) -> Reply | Problem:
    """Mask a number in all records, with what was said in its calls, and remove its recordings.

    The answer counts those of the gateway that is asked; the others remove theirs within seconds, or when they start.
    """
    number = asked.path["number"]
    if not re.fullmatch(E164, number):
        return wrong_field("number", 'must be in E.164, like "+15550100"')
    if api.store is None:
        return Problem(409, "This gateway keeps no records.", "not_possible")
    forgotten = await api.store.forget(number)
    removed = await asyncio.to_thread(remove_recordings, api.node, forgotten.recordings)
    return Reply(200, ForgottenNumber(calls=len(forgotten.recordings), recordings=removed))
