"""The four APIs in one process, on one port, and the log of what was dialled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

from gateway.audio.files import convert, read_wav_or_asset
from gateway.errors import BindError
from gateway.simulator import clock
from gateway.simulator.carriers import Credentials, load_signer
from gateway.simulator.plan import CALLER_RATE, CallPlan, Pcm
from gateway.simulator.rest.accounts import fixed_accounts, settings_of
from gateway.simulator.rest.api import RestApi
from gateway.simulator.rest.call import PlacedCall
from gateway.simulator.rest.exotel import ExotelApi
from gateway.simulator.rest.order import Order
from gateway.simulator.rest.plan import NUMBERS, Plan
from gateway.simulator.rest.plivo import PlivoApi
from gateway.simulator.rest.telnyx import TelnyxApi
from gateway.simulator.rest.twilio import TwilioApi

APIS: tuple[type[RestApi], ...] = (TwilioApi, TelnyxApi, PlivoApi, ExotelApi)
STOP_SECONDS = 2.0
MAX_LIVE = 500
"""Calls at once: what this process can talk on. More are refused as too many requests."""


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request to an API, as it was answered. status 0: it was not."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an API may be used; None: as fast as it is.

    requests   a second; more are answered 429
    calls      a second; more wait in the carrier's queue before they ring
    """

    requests: float | None = None
    calls: float | None = None


def usual_pace() -> dict[str, Pace]:
    """Return how fast new accounts may use the APIs."""
    return {api.name: Pace(calls=api.usual_calls) for api in APIS}


class SimulatedCarriers:
    """The carriers' REST APIs on loopback. Use as an async context manager.

    plans         what becomes of calls to a number; all others: as in `NUMBERS`, else `plan`
    plan          what becomes of a call to any other number
    accounts      an account at each carrier; None: the fixed test accounts
    pace          by carrier
    public_url    what the gateway calls itself, and gateway_url where it really listens: webhooks and streams below the
                  one are sent to the other. None: URLs are used as they are
    told          called with each call whenever its status has changed
    port          0: any
    keep          how many calls and requests the logs hold; of more, the oldest are forgotten

    All but port and keep may be changed while it runs, for the calls that are placed from then on.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan] | None = None,
        *,
        plan: Plan | None = None,
        accounts: Credentials | None = None,
        pace: Mapping[str, Pace] | None = None,
        public_url: str | None = None,
        gateway_url: str | None = None,
        told: Callable[[PlacedCall], None] | None = None,
        port: int = 0,
        keep: int = 1000,
    ) -> None:
        self.plans = dict(plans or {})
        self.plan = plan or Plan()
        self.accounts = accounts or fixed_accounts()
        self.pace = dict(pace or {})
        self.public_url = public_url
        self.gateway_url = gateway_url
        self.url = ""
        self.calls: deque[PlacedCall] = deque(maxlen=keep)
        """Every call that was dialled, in order."""
        self.requests: deque[RestRequest] = deque(maxlen=keep)
        self._told = told
        self._port = port
        self._live: dict[asyncio.Task[None], PlacedCall] = {}
        self._turns: dict[tuple[str, str], float] = {}
        self._stopping = asyncio.Event()
        mounts = [Mount(f"/{api.name}", routes=api(self.accounts[api.name], self).routes()) for api in APIS]
        self._app = Starlette(routes=mounts)

    # As a server

    async def __aenter__(self) -> SimulatedCarriers:
        """Listen. Raises BindError."""
        # asyncio sets TCP_NODELAY only where the protocol is spelled out; without it answers wait 40 ms for an ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            raise BindError("--port", f"cannot listen on 127.0.0.1:{self._port}: {error}") from None
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            log_level="critical",
            lifespan="off",
            access_log=False,
            ws="none",
            proxy_headers=False,
        )
        self._server = QuickServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping.set()
        for call in self._live.values():
            call.end("carrier")
        if self._live:
            _, late = await asyncio.wait(self._live, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._server.over.set()
        await self._serving

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and note how it was answered."""
        if scope["type"] != "http":
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self.requests.append(RestRequest(scope["method"], scope["path"], status))

    def api_url(self, carrier: str) -> str:
        """Return what the gateway's settings call this carrier's `api_url`."""
        return f"{self.url}/{carrier}"

    def settings(self) -> str:
        """Return the `[carriers.…]` sections of gateway.toml that dial out through these APIs."""
        return settings_of(self.accounts, self.url)

    def load_signers(self) -> None:
        """Import what signs, before the first call has to wait for it."""
        for carrier in self.accounts:
            load_signer(CallPlan(carrier=carrier, base_url=self.url, audio=self._speech, credentials=self.accounts))

    # The log

    def find(self, carrier: str, call_id: str) -> PlacedCall | None:
        """Return the call of this id, the newest first."""
        return next((c for c in reversed(self.calls) if c.carrier_name == carrier and c.call_id == call_id), None)

    def find_alias(self, carrier: str, alias: str) -> PlacedCall | None:
        """Return the call whose second id it is."""
        return next((c for c in reversed(self.calls) if c.carrier_name == carrier and c.alias == alias), None)

    def calls_to(self, number: str) -> list[PlacedCall]:
        """Return the calls that were dialled to a number, in order."""
        return [call for call in self.calls if call.to == number]

    async def ended(self) -> None:
        """Wait until no call is left, and their last callbacks have been answered."""
        while self._live:
            await asyncio.wait(list(self._live))

    # For the APIs

    def plan_for(self, to: str) -> Plan:
        """Return what becomes of a call to this number."""
        if to in self.plans:
            return self.plans[to]
        return NUMBERS[to].plan if to in NUMBERS else self.plan

    def script(self, carrier: str, order: Order, plan: Plan) -> CallPlan:
        """Make the plan of the conversation that follows the answer."""
        audio = plan.audio if plan.audio is not None else self._speech
        if plan.party == "machine":
            audio = audio[: round(plan.greeting * CALLER_RATE)]
        return CallPlan(
            carrier=carrier,
            base_url=self.gateway_url or self.public_url or "",
            public_url=self.public_url,
            audio=audio,
            credentials=self.accounts,
            from_number=order.from_number,
            to_number=order.to,
            seconds=plan.stay,
            linger=0.0,
            encoding=plan.encoding,
            faults=plan.faults,
            dial_result=plan.dial_result,
            dial_seconds=plan.dial_seconds,
            direction="outbound",
        )

    def start(self, call: PlacedCall) -> None:
        """Dial: from now on the call is in the log."""
        self.calls.append(call)
        pace = self.pace.get(call.carrier_name, Pace())
        call.queued = self._turn(call.carrier_name, "calls", pace.calls)
        call.told, call.plan_for = self._told, self.plan_for
        task = asyncio.create_task(call.live())
        self._live[task] = call
        task.add_done_callback(self._done)

    def over_rate(self, carrier: str) -> bool:
        """Count a request. True if it is one too many, or so many calls are running."""
        if len(self._live) >= MAX_LIVE:
            return True
        rate = self.pace.get(carrier, Pace()).requests
        now = clock.now()
        if self._turns.get((carrier, "requests"), now) > now + 1e-9:
            return True
        self._turn(carrier, "requests", rate)
        return False

    async def disconnected(self, request: Request) -> None:
        """Wait until the one who asked has gone away, or this server stops."""
        gone = asyncio.create_task(_read_to_the_end(request))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        stopping.cancel()

    def _turn(self, carrier: str, what: str, rate: float | None) -> float:
        """Take the next turn at so many a second. Returns the seconds until then."""
        if not rate:
            return 0.0
        now = clock.now()
        at = max(now, self._turns.get((carrier, what), now))
        self._turns[carrier, what] = at + 1 / rate
        return at - now

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._live[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    @cached_property
    def _speech(self) -> Pcm:
        pcm, rate = read_wav_or_asset(None, "speech.wav")
        return convert(pcm, rate, CALLER_RATE)


class QuickServer(uvicorn.Server):
    """Stops when it is told to, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.over = asyncio.Event()

    async def main_loop(self) -> None:
        await self.over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections; uvicorn's own waits a tenth of a second first."""
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            _, late = await asyncio.wait(self.server_state.tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _read_to_the_end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
