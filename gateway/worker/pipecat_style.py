"""Tell a bot that is written for Pipecat's runner from one of ours, and how it is to be served.

By what its one parameter is annotated with, as it resolves; where that says nothing, by the parameter's name, in a
module that imports Pipecat. Nothing of Pipecat is imported here: what the bot's module has imported is looked at.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any, Union, get_args, get_origin

from gateway.errors import BotError

PACKAGES = ("pipecat", "pipecatcloud")
ARGUMENTS = frozenset({"RunnerArguments", "WebSocketRunnerArguments", "SessionArguments", "WebSocketSessionArguments"})
"""Classes of Pipecat and of Pipecat Cloud whose bots can be served: those of a WebSocket, and what they derive from."""
NAMES = frozenset({"args", "runner_args", "runner_arguments", "session_args", "session_arguments"})
"""What such a parameter is called where it is not annotated."""
OUR_TRANSPORT = "gateway.worker.pipecat"


@dataclass(frozen=True, slots=True)
class PipecatStyle:
    """A bot takes Pipecat's arguments.

    arguments: their class, None for Pipecat's own of a WebSocket.
    ours: its module imports `gateway.worker.pipecat`: it speaks pcm.
    """

    arguments: type | None
    ours: bool


def find_style(target: str, name: str, function: Any, module: ModuleType) -> PipecatStyle | None:
    """Return how the bot takes Pipecat's arguments, None for a bot of ours.

    Raises BotError, one line, if it takes arguments of Pipecat's that no phone call has.
    """
    parameter = next(iter(_parameters(function)), None)
    if parameter is None or parameter.kind is parameter.VAR_POSITIONAL:
        return None
    kinds = list(_alternatives(parameter.annotation, function))
    takes = [kind for kind in kinds if _is_served(kind)]
    if not takes:
        if others := [kind for kind in kinds if _is_of_pipecat(kind)]:
            raise BotError(
                f"{target}: `{name}` takes {_name(others[0])}, which has no WebSocket, as phone calls have; annotate "
                "it with RunnerArguments or WebSocketRunnerArguments"
            )
        if not set(kinds) <= {parameter.empty, Any} or parameter.name not in NAMES:
            return None
        if not any(package in sys.modules for package in PACKAGES) and not _imports(module, function, *PACKAGES):
            return None
    made = next((kind for kind in takes if isinstance(kind, type) and _has_websocket(kind)), None)
    return PipecatStyle(made, OUR_TRANSPORT in sys.modules or _imports(module, function, OUR_TRANSPORT))


def imports_pipecat(source: str) -> bool:
    """Return whether this source imports Pipecat, at its top or further in."""
    return any(_imported(source, package) for package in PACKAGES)


def _parameters(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except Exception:  # as a name that only type checkers import: the annotation stays the string that it is
        return list(inspect.signature(function).parameters.values())


def _alternatives(annotation: Any, function: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself: classes, or names that cannot be resolved."""
    if isinstance(annotation, str):
        for each in annotation.split("|"):
            yield each.strip().strip("\"'")
    elif get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each, function)
    else:
        yield annotation


def _is_served(kind: Any) -> bool:
    if isinstance(kind, str):
        return kind.rpartition(".")[2] in ARGUMENTS
    if not isinstance(kind, type):
        return False
    known = [base for base in kind.__mro__ if _is_of_pipecat(base) and base.__name__ in ARGUMENTS]
    return kind in known or any(base.__name__.startswith("WebSocket") for base in known)


def _is_of_pipecat(kind: Any) -> bool:
    if isinstance(kind, str):
        return kind.endswith(("RunnerArguments", "SessionArguments"))
    return isinstance(kind, type) and kind.__module__.partition(".")[0] in PACKAGES


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else kind.__name__


def _has_websocket(kind: type) -> bool:
    return is_dataclass(kind) and any(field.name == "websocket" for field in fields(kind))


def _imports(module: ModuleType, function: Any, *packages: str) -> bool:
    """True if the bot's module, or the one its function is from, imports one of these, at its top or further in."""
    places = (module, sys.modules.get(getattr(function, "__module__", "")))
    return any(_names(place, package) for place in places if place is not None for package in packages)


def _names(module: ModuleType, package: str) -> bool:
    try:
        return _imported(inspect.getsource(module), package)
    except (OSError, TypeError):  # no source is there
        return False


def _imported(source: str, package: str) -> bool:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [each.name for each in names]
            case ast.ImportFrom(module=str(name), names=names, level=0):
                found = [name, *(f"{name}.{each.name}" for each in names)]
            case _:
                continue
        if any(each == package or each.startswith(package + ".") for each in found):
            return True
    return False
