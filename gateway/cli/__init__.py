"""The commands of `gateway`, one module each: HELP, add_arguments(parser), run(arguments) -> exit status."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from gateway.cli import call, check, conformance, demo, load, replay, serve, worker

COMMANDS: Mapping[str, ModuleType] = {
    "demo": demo,
    "serve": serve,
    "worker": worker,
    "call": call,
    "load": load,
    "replay": replay,
    "check": check,
    "conformance": conformance,
}
