"""What Redis keeps as JSON, and what its answers mean.

A server may be another's, half upgraded, damaged, or none at all: each `read_…` takes anything that redis-py gives, and
raises nothing but BadAnswer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, get_args

import orjson

from gateway.errors import BadAnswer
from gateway.pool.facts import Continuation, ContinuationKind, Facts, Outcome, Status, ToldStream, to_dict
from gateway.pool.registry import Claim, ClaimResult, Full, PoolCounts, Queued, SetResult, Stale
from gateway.protocol.workers import LinkProtocol, Worker, WorkerState

MAX_NUMBER = 2**53
"""Beyond it Lua and JSON do not count exactly, and no number of ours is so large."""

# Facts and workers.


def write_facts(facts: Facts, aliases: Iterable[str]) -> str:
    """Write the facts and the aliases by which they are found."""
    fields = to_dict(facts)
    fields["state"] = base64.b64encode(facts.state).decode()
    return _dumps({"facts": fields, "aliases": sorted(aliases)})


def read_facts(text: str) -> tuple[Facts, frozenset[str]]:
    """Read what `write_facts` wrote. Fields that this version does not know are left out, missing ones are empty."""
    record = _dict(_loads(text))
    fields = _dict(record.get("facts"))
    known = {name: _FACTS[name](value) for name, value in fields.items() if name in _FACTS}
    aliases = record.get("aliases", [])
    return Facts(**known), frozenset(map(_str, _list(aliases)))


def write_worker(worker: Worker) -> str:
    """Write a list, as the scripts read it."""
    return _dumps([worker.id, worker.url, worker.state, worker.session, worker.address, worker.cpu, worker.memory])


def read_worker(text: str) -> Worker:
    """Read what `write_worker` wrote, or an older version of it."""
    match _list(_loads(text)):
        case [str(name), str(url), state, str(session), *rest] if state in get_args(WorkerState):
            cpu, memory = map(_int, rest[1:3]) if len(rest) >= 3 else (0, 0)
            return Worker(name, url, state, session, _str(rest[0]) if rest else "", cpu, memory)
    return _fail("a worker")


# Answers.


def read_text(answer: Any) -> str | None:
    """Read a value that may not be there."""
    return None if answer is None else _str(answer)


def read_texts(answer: Any) -> list[str]:
    """Read a list that may not be there."""
    return [] if answer is None else [_str(one) for one in _list(answer)]


def read_count(answer: Any) -> int:
    """Read a number that a key or a hash holds, 0 if it does not."""
    if answer is None:
        return 0
    if isinstance(answer, str) and answer.isascii() and answer.isdigit() and len(answer) <= 16:
        return _int(int(answer))
    return _int(answer)


def read_counts(answer: Any, how_many: int) -> list[int]:
    """Read a list of so many numbers."""
    counts = [_int(one) for one in _list(answer)]
    return counts if len(counts) == how_many else _fail(f"{how_many} numbers")


def read_flag_and_names(answer: Any) -> tuple[bool, tuple[str, ...]]:
    """Read whether something was done, and the names that come with it."""
    match _list(answer):
        case [int(done), *names]:
            return bool(done), tuple(map(_str, names))
    return _fail("names")


def read_claim_result(service: str, session: str, answer: Any) -> ClaimResult:
    """Read the answer of `claim.lua`."""
    match _list(answer):
        case ["queued", position, freed]:
            return Queued(_int(position), _int(freed))
        case ["full", hosts]:
            return Full(_int(hosts))
        case reply:
            return _claim(service, session, reply)


def read_claim(service: str, session: str, answer: Any) -> Claim | Stale:
    """Read the answers of `confirm.lua` and `get_claim.lua`."""
    match _list(answer):
        case ["stale", spent]:
            return Stale(spent=bool(_int(spent)))
        case reply:
            return _claim(service, session, reply)


def read_set_result(answer: Any, value: str) -> SetResult:
    """Read the answer of `set_if_absent.lua`. value: what was to be set."""
    match _list(answer):
        case []:
            return SetResult(True, value, 0.0)
        case [str(first), age]:
            return SetResult(False, first, _int(age) / 1000)
    return _fail("a key")


def read_found(answer: Any) -> str | None:
    """Read the answer of `compare_and_set.lua`: the value found in place of the expected one, None if it was set."""
    match _list(answer):
        case []:
            return None
        case [str(found)]:
            return found
    return _fail("a value")


def read_change(answer: Any) -> tuple[bool, str, float]:
    """Read the answers of `read_text.lua` and `change_text.lua`: whether it was done, the text that was there, and when
    that was, unix seconds.
    """
    match _list(answer):
        case [int(done), str(text), now]:
            return bool(done), text, _int(now) / 1000
    return _fail("a text and a time")


def read_slots(answer: Any) -> PoolCounts:
    """Read the answer of `slots.lua`."""
    return PoolCounts(*read_counts(answer, len(PoolCounts.__slots__)))


def _claim(service: str, session: str, reply: list[Any]) -> Claim:
    match reply:
        case ["claim", str(host), str(worker), attempt, fence, expires, protocol, str(link_key), fresh, static]:
            pass
        case _:
            _fail("a claim")
    if protocol not in get_args(LinkProtocol) or not host or _int(static) > 1:
        _fail("a claim")
    return Claim(
        session=session,
        service=service,
        host=host,
        worker=read_worker(worker) if worker else None,
        attempt=_int(attempt),
        fence=_int(fence),
        expires=_int(expires) / 1000,
        protocol=protocol,
        link_key=link_key,
        fresh=bool(_int(fresh)),
        static=bool(static),
    )


# Values.


def _fail(what: str) -> NoReturn:
    raise BadAnswer(f"redis: the answer is not {what}")


def _str(value: Any) -> str:
    return value if isinstance(value, str) else _fail("text")


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
        return value
    return _fail("a number")


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else _fail("true or false")


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_NUMBER:
        _fail("a time")
    return float(value)


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_str(value), validate=True)
    except ValueError:
        return _fail("base64")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else _fail("a list")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else _fail("an object")


def _one_of(words: tuple[Any, ...]) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, str) and value in words else _fail(f"one of {words}")


def _continuation(value: Any) -> Continuation:
    return Continuation(**_known(value, _CONTINUATION))


def _told_stream(value: Any) -> ToldStream:
    return ToldStream(**_known(value, _TOLD_STREAM))


def _known(value: Any, readers: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: readers[name](one) for name, one in _dict(value).items() if name in readers}


_CONTINUATION: dict[str, Callable[[Any], Any]] = {
    "kind": _one_of(get_args(ContinuationKind)),
    "value": _str,
    "seq": _int,
}
_TOLD_STREAM: dict[str, Callable[[Any], Any]] = {"worker": _str, "stream_id": _str, "seq": _int}
_READERS: dict[type, Callable[[Any], Any]] = {
    str: _str,
    bool: _bool,
    int: _int,
    float: _seconds,
    bytes: _bytes,
    dict: _dict,
    Continuation: _continuation,
    ToldStream: _told_stream,
}
_FACTS: dict[str, Callable[[Any], Any]] = {
    name: _READERS[type(getattr(Facts(), name))] for name in Facts.__dataclass_fields__
} | {"status": _one_of(get_args(Status)), "outcome": _one_of(get_args(Outcome))}
"""How each field of the facts is read, by the type of its default."""


def _dumps(value: Any) -> str:
    """orjson takes no integers beyond 64 bits and no lone surrogates; a call's `body` may hold either."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return json.dumps(value, default=str, skipkeys=True)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(_str(text))
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text, parse_constant=lambda _: None)  # NaN is a number to no one else
    except (ValueError, RecursionError):
        return _fail("JSON")
