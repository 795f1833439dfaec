"""Find the bot: `path/bot.py`, `path/bot.py:function`, `package.module` or `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.errors import BotError
from gateway.protocol.workers import LinkProtocol
from gateway.worker.logs import describe
from gateway.worker.pipecat_style import PipecatStyle, find_style, imports_pipecat

if TYPE_CHECKING:
    BotFunction: TypeAlias = Callable[[Any], Awaitable[None]]

DEFAULT_FUNCTION = "bot"
OUR_PACKAGES = ("gateway", "serializers")


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot that can be run.

    target: how it was named.
    run: takes a `Call`; or Pipecat's arguments, if it has a `pipecat` style.
    prewarm: called once in each worker before the worker is offered.
    """

    target: str
    run: BotFunction
    prewarm: Callable[[], None] | None
    pipecat: PipecatStyle | None = None

    @property
    def protocol(self) -> LinkProtocol:
        """What its links speak: a bot of Pipecat's speaks the carrier's own wire, unless our transport is its own."""
        return "relay" if self.pipecat is not None and not self.pipecat.ours else "pcm"


def load(target: str) -> Bot:
    """Import the bot's module and find its function.

    Raises BotError, one line, if that cannot be; the traceback of a failed import is its `__cause__`.
    """
    # Ours are found before the bot's folder is looked into, which may have modules of these names.
    for package in OUR_PACKAGES:
        importlib.import_module(package)
    where, _, name = target.rpartition(":") if _names_function(target) else (target, "", "")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    name = name or DEFAULT_FUNCTION
    function = getattr(module, name, None)
    if function is None:
        raise BotError(f"{target}: has no `{name}`; write `async def {name}(call): …`")
    _check(target, name, function)
    prewarm = getattr(module, "prewarm", None)
    if inspect.iscoroutinefunction(prewarm) or inspect.isasyncgenfunction(prewarm):
        raise BotError(f"{target}: `prewarm` is async; write `def prewarm(): …`, it is called before there is a loop")
    style = find_style(target, name, function, module)
    if style is not None and importlib.util.find_spec("pipecat") is None:
        raise BotError(
            f"{target}: `{name}` takes Pipecat's arguments, and there is no Pipecat: install it where the bot runs: "
            'python -m pip install "pipecat-ai[websocket]"'
        )
    return Bot(target, function, prewarm if callable(prewarm) else None, style)


def check_target(target: str, *, elsewhere: bool = False) -> None:
    """Raise BotError, one line, if there is no such module at all. Imports nothing of it.

    elsewhere: it runs in an environment of its own, where only that knows which modules there are.
    """
    where = target.rpartition(":")[0] if _names_function(target) else target
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise BotError(_no_file(where))
        return
    if elsewhere:
        return
    top = where.partition(".")[0]
    try:  # the working directory is looked into as `_load_module` does
        found = importlib.util.find_spec(top) or importlib.machinery.PathFinder.find_spec(top, [""])
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise BotError(f"{where}: there is no such module in {Path.cwd()}; name a file as path/bot.py")


def names_pipecat(target: str) -> bool:
    """Return whether the source of the bot's module imports Pipecat. Imports nothing."""
    where = target.rpartition(":")[0] if _names_function(target) else target
    try:
        path = Path(where) if where.endswith(".py") else _source_of(where)
        return path is not None and imports_pipecat(path.read_text())
    except (OSError, ValueError, ImportError):
        return False


def _source_of(name: str) -> Path | None:
    """Where a module's source is: beside us, or on the path. Its packages are not imported."""
    places: Sequence[str] | None = [".", *sys.path]
    for part in name.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.origin else None


def hidden_neighbours(target: str) -> list[str]:
    """Say of each module beside the bot that the bot cannot import, as a package of ours has its name, what to do."""
    where = target.rpartition(":")[0] if _names_function(target) else target
    folder = Path(where).resolve().parent if where.endswith(".py") else Path.cwd()
    ours = Path(__file__).resolve().parents[2]
    found = []
    for package in OUR_PACKAGES if folder != ours else ():
        if (folder / f"{package}.py").is_file():
            found.append(folder / f"{package}.py")
        elif any((folder / package).glob("*.py")):
            found.append(folder / package)
    return [
        f"{path}: `import {path.stem}` finds the gateway's own package of that name first; rename it if a bot is to "
        "import it"
        for path in found
    ]


def is_ours(bot: Bot) -> bool:
    """Return whether this is a bot of the gateway's own, as the echo: what its user's folder holds is nothing to it."""
    return getattr(bot.run, "__module__", "").partition(".")[0] in OUR_PACKAGES


def _no_file(where: str) -> str:
    looked_in = "" if Path(where).is_absolute() else f" in {Path.cwd()}"
    return f"{where}: there is no such file{looked_in}"


def _names_function(target: str) -> bool:
    return target.rpartition(":")[2].isidentifier() and ":" in target


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BotError(_no_file(str(path)))
    path = path.resolve()
    # The module's own neighbours are importable, as they are for `python bot.py`.
    sys.path.insert(0, str(path.parent))
    name = path.stem if path.stem not in sys.modules else f"bot_{path.stem}"  # a bot may be called json.py
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as e:
        del sys.modules[name]
        raise _failed(str(path), e) from e
    return module


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name and (name == e.name or name.startswith(e.name + ".")):
            raise BotError(
                "; ".join(
                    [
                        f"{name}: there is no such module here; a bot is path/bot.py or package.module:function",
                        *(hidden_neighbours(name) if name.partition(".")[0] in OUR_PACKAGES else ()),
                    ]
                )
            ) from None
        raise _failed(name, e) from e
    except BaseException as e:
        raise _failed(name, e) from e


def _failed(where: str, error: BaseException) -> BotError:
    """One line that says what and where; and what hides a module of the bot's, if that may be why."""
    mends = hidden_neighbours(where) if isinstance(error, (ImportError, AttributeError)) else []
    if isinstance(error, ModuleNotFoundError) and not mends:
        mends = ["install the package that has it where the gateway is installed: python -m pip install …"]
    if isinstance(error, SystemExit):
        mends = ["a bot's module is imported, not run: leave out what ends the process"]
    return BotError("; ".join([f"{where}: importing it failed: {describe(error)}", *mends]))


def _check(target: str, name: str, function: Any) -> None:
    if inspect.isasyncgenfunction(function):
        raise BotError(f"{target}: `{name}` has a `yield`; take it out, and speak by `await call.play(pcm)`")
    called = getattr(function, "__call__", None)  # noqa: B004  an object's own, to see whether it is async
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(called):
        raise BotError(f"{target}: `{name}` is not an async function; write `async def {name}(call): …`")
    parameters = list(inspect.signature(function).parameters.values())
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p for p in parameters if p.default is p.empty and p.kind not in optional]
    if len(required) > 1 or not parameters:
        raise BotError(
            f"{target}: `{name}` takes {len(required)} arguments, not one: the call; write `async def {name}(call): …`"
        )
