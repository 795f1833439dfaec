"""The Lua scripts in `lua/`: each is one atomic step on Redis. `common.lua` describes the keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from gateway.pool.registry import MAX_FENCE_LEAD_US

SERVER_TIME = "redis.call('TIME')"
"""The Lua that tells the time: {seconds, microseconds}. No node's clock decides a lease."""

_ON_A_SERVICE = (
    "beat", "claim", "confirm", "drain_host", "drop_host", "get_claim", "leave_queue", "move_out", "put_host",
    "release", "renew", "slots",
)  # fmt: skip
_ENTER_RUNNING_CALLS = ("put_host", "renew")
"""Those of them that have `restore.lua` besides."""
_ALONE = ("set_if_absent", "compare_and_set", "read_text", "change_text")


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the SHA-1 by which the server knows it."""

    text: str
    sha: str


def load_scripts(clock: str = SERVER_TIME) -> dict[str, Script]:
    """All of them by name. clock: see SERVER_TIME; tests pass their own."""
    common = {name: _read("common") for name in _ON_A_SERVICE}
    common |= {name: f"{common[name]}\n{_read('restore')}" for name in _ENTER_RUNNING_CALLS}
    texts = {name: f"{before}\n{_read(name)}" for name, before in common.items()} | {n: _read(n) for n in _ALONE}
    filled = {
        name: text.replace("{{CLOCK}}", clock).replace("{{MAX_FENCE_LEAD_US}}", str(MAX_FENCE_LEAD_US))
        for name, text in texts.items()
    }
    return {name: _script(text) for name, text in filled.items()}


def _read(name: str) -> str:
    return (files("gateway.pool.redis") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
