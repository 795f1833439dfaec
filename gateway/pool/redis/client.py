"""The way to one Redis server: deadlines, breaker, scripts by their SHA. Every failure is RegistryUnavailable."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from gateway.errors import BadAnswer, RegistryUnavailable
from gateway.pool.breaker import Breaker
from gateway.pool.redis.scripts import SERVER_TIME, load_scripts
from gateway.pool.runtime_timeout import runtime_timeout

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_TIMEOUT = 0.25
"""Seconds for an answer, with a connection where there is none. redis-py's defaults (5 s and retries) make a refused
server 3 s and a hung one 10 s: measured. Its own deadlines are off: they count time in which this process did not
run, and cost a task per send."""
CLOSE_TIMEOUT = 1.0
"""Seconds for closing a connection to a server that takes no more bytes. redis-py takes its connect timeout for it;
for connecting, ANSWER_TIMEOUT is shorter."""
COMPLAIN_EVERY = 60.0
"""Seconds between two log lines of answers that make no sense."""
CONNECTIONS = 32
"""At once, to one server; more only make each answer later."""


class RedisClient:
    """Connects when it is first asked; belongs to the event loop in which that happens.

    url: `redis://`, `rediss://` or `unix://`. clock: see `scripts.load_scripts`. monotonic: this node's own
    clock, in seconds, for breaker and outages.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = CONNECTIONS,
        clock: str = SERVER_TIME,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import NoScriptError, RedisError, ResponseError

        self._failures = (RedisError, OSError)
        self._refusal = ResponseError
        self._no_script = NoScriptError
        self._pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=CLOSE_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            encoding_errors="surrogatepass",  # what JSON from outside may hold must not raise here
            protocol=2,
        )
        self._redis = redis.asyncio.Redis(connection_pool=self._pool)
        # redis-py makes a bool of what SET answers, unless it built the command itself; SET … GET answers a value.
        self._redis.set_response_callback("SET", lambda response, **_: response)
        self._turns = asyncio.Semaphore(connections)
        self._scripts = load_scripts(clock)
        self._monotonic = monotonic
        self._breaker = Breaker(monotonic)
        self._complained = -math.inf

    @property
    def seconds_since_outage(self) -> float:
        """Seconds since the end of the last outage; infinite if there was none."""
        return self._breaker.outage.seconds_since_outage(self._monotonic())

    def forgot(self) -> None:
        """The server has started empty: as good as an outage."""
        self._breaker.outage.forgot(self._monotonic())

    async def run(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask, unless the server did not answer a moment ago. Raises RegistryUnavailable for all that goes wrong.

        question: sends commands by the methods below and reads their answers; it may raise as redis-py does.
        """
        self._breaker.check()
        cancels = _cancel_requests()
        async with self._turns:
            began = self._breaker.begin()  # it may have failed for others while we waited for a turn
            try:
                answer = await question()
            except self._failures as error:
                if type(error) is self._refusal and _is_of_one_key(str(error)):
                    self._misanswered(began, error)
                    raise BadAnswer(f"redis: {type(error).__name__}: {error}") from error
                self._breaker.failed(began)
                await self._drop_idle()
                _raise_lost_cancel(cancels)
                raise RegistryUnavailable(f"redis: {type(error).__name__}: {error}") from error
            except BadAnswer as error:
                self._misanswered(began, error)
                raise
            except RegistryUnavailable:
                self._breaker.gave_up()
                raise
            except Exception as error:
                # redis-py's parser raises what it happens to: ValueError for ":abc", UnicodeDecodeError for bytes that
                # are no UTF-8, RecursionError for lists in lists.
                self._misanswered(began, error)
                raise BadAnswer(f"redis: {type(error).__name__}: its answer makes no sense") from error
            except BaseException:
                self._breaker.gave_up()
                raise
            self._breaker.succeeded()
            _raise_lost_cancel(cancels)
            return answer

    async def command(self, *command: Any) -> Any:
        """One command."""
        async with runtime_timeout(ANSWER_TIMEOUT):
            return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's own

    async def script(self, name: str, key: str, *args: Any) -> Any:
        """One script, on one key."""
        script = self._scripts[name]
        try:
            return await self.command("EVALSHA", script.sha, 1, key, *args)
        except self._no_script:  # a server that was restarted
            return await self.command("EVAL", script.text, 1, key, *args)

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Many commands in one round trip, not as one step."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        async with runtime_timeout(ANSWER_TIMEOUT):
            return list(await pipeline.execute())

    async def command_and_script(self, command: tuple[Any, ...], name: str, key: str, *args: Any) -> tuple[Any, Any]:
        """Both in one round trip; the script runs after the command, not as one step with it."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.execute_command(*command)
        pipeline.execute_command("EVALSHA", self._scripts[name].sha, 1, key, *args)
        async with runtime_timeout(ANSWER_TIMEOUT):
            first, second = await pipeline.execute(raise_on_error=False)
        if isinstance(second, self._no_script):
            second = await self.script(name, key, *args)
        for answer in (first, second):
            if isinstance(answer, Exception):
                raise answer
        return first, second

    async def close(self) -> None:
        """Close the connections. Idempotent; the next question would open new ones."""
        try:
            await self._pool.disconnect()
        except self._failures:
            pass

    def _misanswered(self, began: float, error: Exception) -> None:
        self._breaker.misanswered(began)
        now = self._monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.error("unexpected answers from Redis: check the URL, and the server's data", exc_info=error)

    async def _drop_idle(self) -> None:
        """The other connections lead to the same dead server, and would fail one by one after its return."""
        try:
            await self._pool.disconnect(inuse_connections=False)
        except self._failures:
            pass


class HasClient(Protocol):
    """What asks by `one_question`."""

    _client: RedisClient


H = TypeVar("H", bound=HasClient)


def one_question(
    question: Callable[Concatenate[H, P], Awaitable[T]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make a method one question to the server: see `RedisClient.run`. It must not await another such method, as each
    has one of the client's turns: with all turns taken by such, none would get its second.
    """

    @wraps(question)
    async def method(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._client.run(partial(question, self, *args, **kwargs))

    return method


def milliseconds(seconds: float) -> int:
    """Return a time as Redis takes it, which takes none below 1."""
    return max(1, round(seconds * 1000))


def _is_of_one_key(error: str) -> bool:
    """True if a server that lives found a key damaged, or a script of ours stumbled over what it holds.

    Redis 6.2 wraps what a script was refused: a server that takes no writes now is away, in a script too.
    """
    if any(word in error for word in ("OOM ", "READONLY ", "MISCONF ", "MASTERDOWN ", "NOREPLICAS ")):
        return False
    return "WRONGTYPE " in error or "user_script:" in error


def _cancel_requests() -> int:
    """How often the current task has been told to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _raise_lost_cancel(before: int) -> None:
    """redis-py sends by asyncio.wait_for, which before Python 3.12 loses a cancellation that comes as it is done
    (bpo-37658): a task that was told to end would go on for ever.
    """
    if _cancel_requests() > before:
        raise asyncio.CancelledError
