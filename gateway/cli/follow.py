"""A call that is placed through a gateway's API, on the terminal: each step a line, from ringing to its end."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import httpx

LOOK_EVERY = 0.5
"""Seconds between two looks at the call."""
PLACE_SECONDS = 40.0
"""For the gateway's answer to the order: a worker starts, and the carrier is asked."""
AWAY_SECONDS = 30.0
"""For so long the gateway may not answer while the call is followed: it may be restarted."""
ENDING_SECONDS = 5.0
"""From the bot's end to the carrier's word that the call is over, which may not come."""
TWICE_SECONDS = 0.5
"""Two interrupts within this are one: a terminal and what runs this command may both pass it on."""
WRONG = frozenset({401, 403, 415, 422})
"""Answers that say that the command was called wrongly, or that the settings do not allow the call."""
ANSWERED = frozenset({"answered", "ending", "ended"})
NOT_TAKEN = frozenset({"busy", "no_answer", "canceled", "failed", "rejected"})


@dataclass(frozen=True, slots=True)
class Order:
    """A call to place. url: of the gateway. call: the request's body."""

    url: str
    key: str = field(repr=False)
    call: Mapping[str, Any]


async def follow(order: Order, *, as_json: bool, out: TextIO, say: TextIO) -> int:
    """Place the call and follow it. Returns the exit status. say: where the steps go, if `out` is for the record."""
    import httpx

    steps = say if as_json else out
    headers = {"authorization": f"Bearer {order.key}", "idempotency-key": secrets.token_hex(16)}
    async with httpx.AsyncClient(base_url=order.url, headers=headers, timeout=PLACE_SECONDS, trust_env=False) as http:
        try:
            answer = await http.post("/v1/calls", json=dict(order.call))
        except httpx.HTTPError as error:
            print(f"gateway dial: --url: no gateway answers at {order.url}: {type(error).__name__}", file=say)
            return 1
        if answer.status_code not in (201, 202):
            print(f"gateway dial: {refusal(answer)}", file=say)
            return 2 if answer.status_code in WRONG else 1
        call = _Followed(http, str(answer.json()["session_id"]), steps)
        record = await call.run()
    if as_json and record is not None:
        print(json.dumps(record, ensure_ascii=False), file=out)
    return 0 if record is not None and record["answered_at"] else 1


def refusal(answer: httpx.Response) -> str:
    """Say in one line what a gateway, or whoever answers in its place, has refused."""
    try:
        said = answer.json()
        detail = str(said["detail"])
    except (ValueError, LookupError, TypeError):
        return f"--url: HTTP {answer.status_code}, and not in a gateway's words: is this its URL?"
    after = answer.headers.get("retry-after", "")
    return f"refused: {detail}{f' Try again in {after} s.' if after else ''}"


class _Followed:
    """One call on its way. All that is said goes to `steps`."""

    def __init__(self, http: httpx.AsyncClient, session: str, steps: TextIO) -> None:
        self._http = http
        self._session = session
        self._steps = steps
        self._began = time.monotonic()
        self._told = ""
        self._interrupted_at = 0.0
        self._leave = asyncio.Event()
        self._hanging_up: asyncio.Task[None] | None = None

    async def run(self) -> dict[str, Any] | None:
        """Follow the call to its end. Returns its record; None if it was lost from sight."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        self._say("session", self._session)
        try:
            return await self._follow()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            if self._hanging_up is not None:
                self._hanging_up.cancel()
                await asyncio.gather(self._hanging_up, return_exceptions=True)

    async def _follow(self) -> dict[str, Any] | None:
        seen = ending = time.monotonic()
        record: dict[str, Any] | None = None
        while not self._leave.is_set():
            found, now = await self._look(), time.monotonic()
            if found is not None:
                record, seen = found, now
                self._tell(record)
                ending = now if record["status"] != "ending" else ending
                if record["status"] == "ended" or now - ending > ENDING_SECONDS:
                    return record
            elif now - seen > AWAY_SECONDS:
                self._say("lost", f"the gateway has said nothing of the call for {AWAY_SECONDS:.0f} s")
                return None
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._leave.wait()
            except TimeoutError:
                pass
        self._say("left", "the call goes on without us")
        return None

    async def _look(self) -> dict[str, Any] | None:
        """What the gateway knows of the call; None if it does not say."""
        import httpx

        try:
            answer = await self._http.get(f"/v1/calls/{self._session}", timeout=5.0)
            found = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _tell(self, record: Mapping[str, Any]) -> None:
        """Say what has changed."""
        status = str(record["status"])
        if status == self._told:
            return
        if record["answered_at"] and self._told not in ANSWERED and status != "answered":
            self._say("answered", _who(record))
        self._told = status
        match status:
            case "answered":
                self._say("answered", _who(record))
            case "ended" | "ending":
                lasted = f" after {record['duration_s']:.1f} s" if record["duration_s"] is not None else ""
                reason = record["end_reason"] or "unknown_end"
                self._say(status, f"{reason}{lasted}" if record["answered_at"] or reason in NOT_TAKEN else reason)
            case _:
                self._say(status, "")

    def _interrupted(self) -> None:
        """Ctrl-C: the first hangs up, the second leaves."""
        now = time.monotonic()
        if self._hanging_up is not None:
            if now - self._interrupted_at > TWICE_SECONDS:
                self._leave.set()
            return
        self._interrupted_at = now
        self._say("hanging up", "Ctrl-C again to leave the call alone")
        self._hanging_up = asyncio.get_running_loop().create_task(self._hang_up())

    async def _hang_up(self) -> None:
        import httpx

        try:
            answer = await self._http.post(f"/v1/calls/{self._session}/hangup", json={"at_once": True})
        except httpx.HTTPError as error:
            self._say("hanging up", f"the gateway did not answer: {type(error).__name__}")
            return
        if answer.status_code >= 400:
            self._say("hanging up", refusal(answer))

    def _say(self, what: str, more: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {what:<11} {more}".rstrip(), file=self._steps, flush=True)


def _who(record: Mapping[str, Any]) -> str:
    return f"by a {record['machine']}" if record["machine"] else ""
