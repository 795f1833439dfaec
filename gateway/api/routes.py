"""The routes of the API: one table, from which requests are served and its description is made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import callers, calls, cloud, control, dial, live, proxy, recordings, start
from gateway.api.description import describe
from gateway.api.models import (
    AgentSessionFilters,
    AgentSessionList,
    AgentStartRequest,
    Call,
    CallFilters,
    CallList,
    CallRequest,
    DtmfRequest,
    ForgottenNumber,
    HangupRequest,
    Ordered,
    Placed,
    RecordingPart,
    Started,
    StartRequest,
    Terminated,
    TransferRequest,
    WatchedTypes,
)
from gateway.api.operation import Asked, Endpoint, Header, Method, Operation
from gateway.api.page import PAGE_HEADERS, write_page
from gateway.api.parts import Api
from gateway.api.problems import not_found

CALL = "/v1/calls/{session_id}"
AGENT_SESSIONS = "/v1/agents/{agent}/sessions"

IDEMPOTENCY_KEY = Header(
    dial.IDEMPOTENCY_KEY,
    "The same key gives the first answer again, for a day.",
    r"^[!-~]([ -~]{0,253}[!-~])?$",
    "printable ASCII, 1 to 255 characters, with no space at either end",
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="place_call",
        method="POST",
        path="/v1/calls",
        scope="calls:write",
        summary="Place a call, with its bot warm before the phone rings.",
        handle=dial.place_call,
        body=CallRequest,
        answers={201: Placed, 202: Placed},
        problems=(409, 429, 502),
        headers=(IDEMPOTENCY_KEY,),
    ),
    Operation(
        name="list_calls",
        method="GET",
        path="/v1/calls",
        scope="calls:read",
        summary="Calls, running and past, the newest first. Without records: those that run on this node.",
        handle=calls.list_calls,
        query=CallFilters,
        answers={200: CallList},
        problems=(404,),
    ),
    Operation(
        name="get_call",
        method="GET",
        path=CALL,
        scope="calls:read",
        summary="One call, running or past.",
        handle=calls.get_call,
        answers={200: Call},
        problems=(404,),
    ),
    Operation(
        name="hangup",
        method="POST",
        path=f"{CALL}/hangup",
        scope="calls:write",
        summary="End a call. One that has ended already is as good.",
        handle=control.hangup,
        body=HangupRequest,
        body_optional=True,
        answers={202: Ordered, 200: Ordered},
        problems=(404, 409, 504),
    ),
    Operation(
        name="transfer",
        method="POST",
        path=f"{CALL}/transfer",
        scope="calls:write",
        summary="Hand the caller over to another number. If it does not answer, they are with their bot again.",
        handle=control.transfer,
        body=TransferRequest,
        answers={202: Ordered},
        problems=(404, 409, 504),
    ),
    Operation(
        name="dtmf",
        method="POST",
        path=f"{CALL}/dtmf",
        scope="calls:write",
        summary="Press keys in a call.",
        handle=control.dtmf,
        body=DtmfRequest,
        answers={202: Ordered},
        problems=(404, 409, 504),
    ),
    Operation(
        name="get_recording",
        method="GET",
        path=f"{CALL}/recording",
        scope="calls:read",
        summary="What was said in a call, as a file.",
        handle=recordings.get_recording,
        query=RecordingPart,
        answers={200: "audio/flac", 206: "audio/flac"},
        problems=(404, 409, 416),
        headers=(Header("Range", "One range of bytes."),),
    ),
    Operation(
        name="pause_recording",
        method="POST",
        path=f"{CALL}/recording/pause",
        scope="calls:write",
        summary="Record silence from now on.",
        handle=recordings.pause,
        answers={202: Ordered},
        problems=(404, 409, 504),
    ),
    Operation(
        name="resume_recording",
        method="POST",
        path=f"{CALL}/recording/resume",
        scope="calls:write",
        summary="Record again what is said.",
        handle=recordings.resume,
        answers={202: Ordered},
        problems=(404, 409, 504),
    ),
    Operation(
        name="events",
        method="GET",
        path="/v1/events",
        scope="calls:read",
        summary="What happens to calls now, as server-sent events that do not end.",
        handle=live.watch,
        query=WatchedTypes,
        answers={200: "text/event-stream"},
    ),
    Operation(
        name="forget_number",
        method="DELETE",
        path="/v1/callers/{number}",
        scope="admin",
        summary="Forget a number: its records are masked, its recordings removed.",
        handle=callers.forget,
        answers={200: ForgottenNumber},
        problems=(409,),
    ),
    Operation(
        name="start",
        method="POST",
        path="/start",
        scope="start",
        summary="Prepare a stream to a bot, or call a number: the shape of Pipecat's runner.",
        handle=start.start,
        body=StartRequest,
        answers={200: Started},
        problems=(400, 404, 409, 429, 502),
        headers=(IDEMPOTENCY_KEY,),
    ),
    Operation(
        name="start_agent",
        method="POST",
        path="/v1/public/{agent}/start",
        scope="start",
        summary="The same for one agent: the shape of Pipecat Cloud. Refused while all of its workers have calls.",
        handle=cloud.start,
        body=AgentStartRequest,
        body_optional=True,
        answers={200: Started},
        problems=(400, 404, 409, 429, 502),
        headers=(IDEMPOTENCY_KEY,),
    ),
    Operation(
        name="list_agent_sessions",
        method="GET",
        path=AGENT_SESSIONS,
        scope="calls:read",
        summary="Sessions of an agent, in the shape of Pipecat Cloud.",
        handle=cloud.list_sessions,
        query=AgentSessionFilters,
        answers={200: AgentSessionList},
        problems=(404,),
    ),
    Operation(
        name="end_agent_session",
        method="DELETE",
        path=f"{AGENT_SESSIONS}/{{session_id}}",
        scope="calls:write",
        summary="End a session, in the shape of Pipecat Cloud.",
        handle=cloud.end_session,
        answers={200: Terminated},
        problems=(404, 409, 504),
    ),
    *(
        Operation(
            name=f"session_{method.lower()}",
            method=method,
            path="/v1/public/{agent}/sessions/{session_id}/{path}",
            scope="start",
            summary=f"{method} a route of a running session's bot, in the shape of Pipecat Cloud.",
            handle=proxy.proxy,
            answers={200: "*/*"},
            problems=(400, 404, 409, 429, 501, 502, 504),
            raw=True,
        )
        for method in get_args(Method)
    ),
)


def make_api(api: Api, bases: Iterable[str] = ("",), more: Iterable[Operation] = ()) -> list[Route]:
    """Make the API's routes. bases: paths that they stand below. more: operations of who serves it."""
    operations = (*OPERATIONS, *more)
    written: list[bytes] = []

    async def document() -> bytes:
        """Write the description when it is first asked for, as few gateways are. It takes longer than a frame of audio
        lasts, so a thread does it.
        """
        if not written:
            server, carriers = api.node.public_url, list(api.node.carriers)
            written.append(await asyncio.to_thread(describe, operations, server, carriers))
        return written[0]

    async def openapi(_: Api, __: Asked) -> Response:
        return Response(await document(), media_type="application/json")

    async def docs(_: Api, __: Asked) -> Response:
        return Response(write_page(await document()), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    described = (
        Operation(
            name="openapi",
            method="GET",
            path="/v1/openapi.json",
            scope=None,
            summary="This description.",
            handle=openapi,
            answers={200: "application/json"},
        ),
        Operation(
            name="docs",
            method="GET",
            path="/v1/docs",
            scope=None,
            summary="It, as a page.",
            handle=docs,
            answers={200: "text/html"},
        ),
    )
    by_path: dict[str, list[Operation]] = {}
    for operation in (*operations, *described):
        by_path.setdefault(operation.path, []).append(operation)
    return [
        Route(f"{base}{path.replace('{path}', '{path:path}')}{slash}", Endpoint(api, operations))
        for base in bases
        for path, operations in by_path.items()
        for slash in ("", "/")
    ]


def is_api(path: str) -> bool:
    """True if a path is, or would be, one of the API's: what is wrong with it is said as a problem."""
    return path == "/start" or path.startswith(("/v1/", "/start/"))


async def no_such_path(_: Request) -> Response:
    """Answer a path of the API that is not there."""
    return not_found("There is no such path: /v1/openapi.json describes those that there are").response()
