"""`POST /v1/calls`: place a call. What becomes of it is dial-out's to say."""

from __future__ import annotations

import math

from gateway.api.models import CallRequest, Placed
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem
from gateway.dialout.request import Dialled, DialQueued, DialRefusal, DialRequest, DialResult

IDEMPOTENCY_KEY = "Idempotency-Key"
PLACES_NONE = Problem(409, "This gateway places no calls.", "not_possible")


async def place_call(api: Api, asked: Asked) -> Reply | Problem:
    """Call a number with a warm bot.

    Over the rate of `[dialout] cps` the call waits, at most 60 s: 202. The same Idempotency-Key gives the first answer
    again.
    """
    body: CallRequest = asked.body
    assert asked.key is not None
    request = DialRequest(
        carrier=body.carrier or "",
        to=body.to,
        from_number=body.from_number,
        service_host=body.service_host or "",
        body=body.body,
        machine_detection=body.machine_detection,
        max_call_seconds=body.max_call_seconds or 0,
        idempotency_key=asked.headers.get(IDEMPOTENCY_KEY, ""),
        key_name=asked.key.name,
    )
    result = await dial(api, request)
    if isinstance(result, Problem):
        return result
    about = {"session_id": result.session_id, "number": body.to}
    if isinstance(result, DialQueued):
        return Reply(202, Placed(session_id=result.session_id, call_id=None, status="queued"), about=about)
    placed = Placed(session_id=result.session_id, call_id=result.call_id, status=result.status)
    return Reply(201, placed, headers={"location": f"/v1/calls/{result.session_id}"}, about=about)


async def dial(api: Api, request: DialRequest) -> Dialled | DialQueued | Problem:
    """Place a call, or say why not."""
    if api.dialout is None:
        return PLACES_NONE
    result: DialResult = await api.dialout.place(request)
    return problem_of(result) if isinstance(result, DialRefusal) else result


def problem_of(refusal: DialRefusal) -> Problem:
    """Write a refusal of dial-out as a problem. The field's name stands before its detail already."""
    detail = refusal.detail
    fields = ((refusal.field, detail.removeprefix(f"{refusal.field}: ").rstrip(".")),) if refusal.field else ()
    after = {"retry-after": str(max(1, math.ceil(refusal.retry_after)))} if refusal.retry_after is not None else {}
    return Problem(refusal.status, detail, refusal.code, fields, after)
