"""The commands of `gateway`, one module each: HELP, add_arguments(parser), run(arguments) -> exit status."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from gateway.cli import (
    call,
    calls,
    check,
    conformance,
    demo,
    dial,
    events,
    forget,
    load,
    replay,
    serve,
    simulate_carriers,
    worker,
)

COMMANDS: Mapping[str, ModuleType] = {
    "demo": demo,
    "serve": serve,
    "worker": worker,
    "call": call,
    "load": load,
    "dial": dial,
    "calls": calls,
    "forget": forget,
    "replay": replay,
    "simulate-carriers": simulate_carriers,
    "check": check,
    "conformance": conformance,
    "events": events,
}
