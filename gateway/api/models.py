"""What requests and answers of the API say: models that validate, and that the API's description is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

E164 = r"^\+[1-9][0-9]{6,14}$"
CURSOR = r"^W[A-Za-z0-9_-]{15,400}$"
"""What a cursor of the records looks like from outside: a JSON list in base64."""
MAX_CALL_BODY = 64 * 1024
"""Bytes of a call's `body` as JSON."""
MAX_TIME = 2**53
MAX_DEPTH = 32
"""Levels of nesting in a call's `body`: what is stored and passed on is written by libraries with limits of their
own."""


class RequestModel(BaseModel):
    """A request: unknown fields are refused, as a misspelt one would be taken for a default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, populate_by_name=True
    )


class QueryModel(BaseModel):
    """The same for a query, whose numbers are text."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _small_enough(body: dict[str, Any]) -> dict[str, Any]:
    if _depth(body) > MAX_DEPTH:
        raise PydanticCustomError("depth", f"is nested more than {MAX_DEPTH} levels deep")
    if len(orjson.dumps(body)) > MAX_CALL_BODY:
        raise PydanticCustomError("size", f"is larger than {MAX_CALL_BODY // 1024} KB as JSON")
    return body


def _depth(value: Any) -> int:
    """How deep it is nested, as far as that matters. Level by level: the stack does not grow with it."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        parts = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [each for part in parts for each in part]
    return depth


def _whole(value: Any) -> Any:
    """Take 60.0 for 60, as JSON and its schemas do (RFC 8259, section 6)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seconds = Annotated[int, Field(ge=1, le=86400), BeforeValidator(_whole)]
CallBody = Annotated[dict[str, Any], AfterValidator(_small_enough)]
Number = Annotated[str, Field(pattern=E164, description='a telephone number in E.164, like "+15550100"')]
Dialled = Annotated[
    str,
    Field(
        pattern=r"^(\+[1-9][0-9]{6,14}|\+?[0-9]{3,6})$",
        description='a telephone number in E.164, like "+15550100"',
    ),
]
"""A number to call. Short ones, as 911, are taken for what they are: the guards refuse them in their own words."""
HostName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="the name of a service of [[services]]")
]
CarrierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$", description='a carrier, like "twilio"')]
Text = Annotated[str, Field(pattern=r"^[ -~]{1,200}$", description="printable ASCII, at most 200 characters")]


class CallRequest(RequestModel):
    """A call to place."""

    carrier: CarrierName | None = Field(None, description="Needed where more than one is set up.")
    to: Dialled
    from_number: Number = Field(alias="from")
    service_host: HostName | None = Field(None, alias="serviceHost")
    body: CallBody = Field({}, description="Reaches the bot as call.data.body: at most 64 KB as JSON.")
    machine_detection: Literal["off", "detect", "message_end"] = "off"
    max_call_seconds: Seconds | None = Field(None, description="None: the service's own limit.")


class Placed(BaseModel):
    """A call that was placed, or waits for its turn."""

    session_id: str
    call_id: str | None = Field(description="The carrier's id of it; null where it is not known yet.")
    status: str = Field(description='"ringing", or "queued" behind the rate.')


class Call(BaseModel):
    """A session, running or past. Times are RFC 3339 in UTC, null where they are not known (yet)."""

    session_id: str
    call_id: str | None
    carrier: str
    direction: str
    from_number: str = Field(alias="from")
    to: str
    service_host: str
    status: str = Field(description='"queued", "ringing", "answered", "ending" or "ended".')
    end_reason: str | None = Field(description="Why it ended, null before.")
    created_at: str | None
    answered_at: str | None
    ended_at: str | None
    duration_s: float | None = Field(description="From answer to end.")
    hold_ms: int
    bot_start_ms: int | None = Field(description="From the first stream's start to the bot's.")
    cold: bool = Field(description="The worker was not ready when the call came.")
    attempts: int = Field(description="How often a worker was started.")
    streams: int
    machine: str | None = Field(description='Who picked up: "human" or "machine".')
    recording: str | None
    body: dict[str, Any]


class CallList(BaseModel):
    """Calls, the newest first."""

    calls: list[Call]
    next_cursor: str | None = Field(description="For `cursor`; null on the last page.")


def _time(text: str) -> str:
    if unix_time(text) is None:
        raise PydanticCustomError("time", 'must be a time with its zone, like "2026-01-31T12:00:00Z"')
    return text


def unix_time(text: str) -> float | None:
    """Read an RFC 3339 time; None if it is none. A leap second is the one before it."""
    found = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})", text
    )
    if found is None:
        return None
    day, minute, second, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{minute}:{min(second, '59')}{'+00:00' if zone in 'Zz' else zone}")
        return (whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + float(fraction or 0)
    except (ValueError, OverflowError):
        return None


Time = Annotated[str, AfterValidator(_time), Field(max_length=64, json_schema_extra={"format": "date-time"})]


class CallFilters(QueryModel):
    """Which calls are listed."""

    status: Literal["queued", "ringing", "answered", "ending", "ended"] | None = None
    direction: Literal["inbound", "outbound"] | None = None
    carrier: CarrierName | None = None
    service_host: HostName | None = None
    from_number: Text | None = Field(None, alias="from")
    to: Text | None = None
    since: Time | None = Field(None, description="Calls that began then or later.")
    until: Time | None = Field(None, description="Calls that began before.")
    limit: int = Field(50, ge=1, le=500)
    cursor: Annotated[str, Field(pattern=CURSOR)] | None = Field(None, description="next_cursor of the page before.")


class RecordingPart(QueryModel):
    """Which file of a recording."""

    part: int = Field(1, ge=1, le=100, description="Which file, of a recording that is not in one.")


class WatchedTypes(QueryModel):
    """Which events are shown."""

    types: Text | None = Field(None, description="Types with commas between them; none: all.")


class NoQuery(QueryModel):
    """A route that takes no query."""


class HangupRequest(RequestModel):
    """How to end a call."""

    at_once: bool = Field(False, description="Without waiting, at most 10 s, for what the bot has said to be heard.")


class TransferRequest(RequestModel):
    """Whom to hand a call over to."""

    to: Dialled


class DtmfRequest(RequestModel):
    """Keys to press."""

    digits: str = Field(
        pattern=r"^[0-9A-Da-d*#wW]{1,64}$", description="0-9 A-D * #, and pauses: w of half a second, W of a second"
    )


class Ordered(BaseModel):
    """What is to be done with a call is done, or will be when the bot's last words have been heard."""

    session_id: str
    status: Literal["accepted", "ended"] = Field(description='"ended": the call was over already.')


class ForgottenNumber(BaseModel):
    """What was forgotten of a number."""

    calls: int = Field(description="Records that were masked.")
    recordings: int = Field(description="Files that were removed.")


class AgentStartRequest(RequestModel):
    """A session to start, in the shape of Pipecat Cloud. What is only for rooms and WebRTC is taken and not used."""

    transport: CarrierName | None = Field(
        None, description='The carrier, or "websocket" for a client of your own; else the first carrier.'
    )
    body: CallBody = Field({}, description="Reaches the bot as call.data.body: at most 64 KB as JSON.")
    phone_number: Dialled | None = Field(None, description="Call this number; else a stream is prepared.")
    from_number: Number | None = Field(None, alias="from", description="None: the first of [dialout] callers.")
    create_daily_room: bool = Field(
        False,
        alias="createDailyRoom",
        description="No rooms are made here; true asks for the transport daily, if none is named.",
        json_schema_extra={"const": False},
    )
    daily_room_properties: dict[str, Any] | None = Field(None, alias="dailyRoomProperties")
    daily_meeting_token_properties: dict[str, Any] | None = Field(None, alias="dailyMeetingTokenProperties")
    enable_default_ice_servers: bool = Field(False, alias="enableDefaultIceServers")


class StartRequest(AgentStartRequest):
    """The same, in the shape of Pipecat's runner: the service is named in the body."""

    service_host: HostName | None = Field(None, alias="serviceHost")


class Started(BaseModel):
    """A session that waits for its stream, or whose call is placed."""

    session_id: str = Field(alias="sessionId")
    ws_url: str | None = Field(None, alias="wsUrl", description="Where the carrier, or the client, opens its stream.")
    token: str | None = Field(None, description="The last part of that URL.")
    call_id: str | None = Field(None, alias="callId")
    body: str | None = Field(
        None, description="Of a client of your own: the body as Pipecat Cloud has it in URLs. The session knows it."
    )


class AgentSession(BaseModel):
    """A session in the shape of Pipecat Cloud. Times are RFC 3339 in UTC; null is what is not known (yet)."""

    session_id: str = Field(alias="sessionId")
    service_id: str = Field(alias="serviceId", description="The service host.")
    organization_id: str | None = Field(alias="organizationId", description="What follows the agent in its name.")
    deployment_id: str | None = Field(alias="deploymentId", description="Always null: there are no deployments here.")
    created_at: str | None = Field(alias="createdAt")
    updated_at: str | None = Field(alias="updatedAt")
    ended_at: str | None = Field(alias="endedAt")
    bot_start_seconds: float | None = Field(
        alias="botStartSeconds", description="From the stream's start to the bot's."
    )
    cold_start: bool | None = Field(alias="coldStart", description="The worker was started for this session.")
    completion_status: str | None = Field(alias="completionStatus", description="Why it ended, null before.")
    cpu_millicores: int | None = Field(alias="cpuMillicores", description="What its worker uses now, if its host says.")
    memory_bytes: int | None = Field(alias="memoryBytes")


class AgentSessionList(BaseModel):
    """Sessions of an agent, the newest first."""

    total_count: int
    sessions: list[AgentSession]


class AgentSessionFilters(QueryModel):
    """Which sessions of an agent are listed."""

    limit: int = Field(10, ge=1, le=100)
    offset: int = Field(0, ge=0, le=100_000)
    deployment_id: Text | None = Field(None, alias="deploymentId", description="There are none here: finds nothing.")
    start_time: int | None = Field(None, alias="startTime", ge=0, le=MAX_TIME, description="Unix seconds: since then.")
    end_time: int | None = Field(None, alias="endTime", ge=0, le=MAX_TIME, description="Unix seconds: before then.")
    status: Literal["active", "ended", "all"] = "all"
    start_type: Literal["cold", "warm", "all"] = Field("all", alias="startType")
    start_time_min: int = Field(0, alias="startTimeMin", ge=0, le=86400, description="Bots that started in more, s.")
    start_time_max: int = Field(0, alias="startTimeMax", ge=0, le=86400, description="In less; 0: in any time.")


class Terminated(BaseModel):
    """A session that ends."""

    status: Literal["terminated"] = "terminated"
    session_id: str


def dump(model: BaseModel) -> Mapping[str, Any]:
    """Write an answer as it stands on the wire."""
    return model.model_dump(by_alias=True)
