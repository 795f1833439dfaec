"""What Redis keeps as JSON: the facts of a session, and workers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import orjson

from gateway.pool.facts import Continuation, Facts, to_dict
from gateway.protocol.workers import Worker


def write_facts(facts: Facts, aliases: Iterable[str]) -> str:
    """The facts and the aliases by which they are found."""
    fields = to_dict(facts)
    fields["state"] = base64.b64encode(facts.state).decode()
    return _dumps({"facts": fields, "aliases": sorted(aliases)})


def read_facts(text: str) -> tuple[Facts, frozenset[str]]:
    """The other way. Fields that this version does not know are left out."""
    record = _loads(text)
    known = _known(Facts, record["facts"])
    known["state"] = base64.b64decode(known["state"])
    known["continuation"] = Continuation(**_known(Continuation, known["continuation"]))
    return Facts(**known), frozenset(record["aliases"])


def _known(kind: type[Facts | Continuation], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in kind.__dataclass_fields__}


def write_worker(worker: Worker) -> str:
    """A list, as the scripts read it."""
    return _dumps([worker.id, worker.url, worker.state, worker.session])


def read_worker(text: str) -> Worker:
    """The other way."""
    return Worker(*_loads(text))


def _dumps(value: Any) -> str:
    """orjson takes no integers beyond 64 bits and no lone surrogates; a call's `body` may hold either."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return json.dumps(value, default=str, skipkeys=True)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
