"""Which bots are Pipecat's: those that take its arguments. Its packages are stand-ins here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gateway.errors import BotError
from gateway.worker.bot_loader import Bot, load

RUNNER_TYPES = """
from dataclasses import dataclass, field
from typing import Any

@dataclass
class RunnerArguments:
    session_id: str | None = field(default=None, kw_only=True)

@dataclass
class WebSocketRunnerArguments(RunnerArguments):
    websocket: Any

@dataclass
class DailyRunnerArguments(RunnerArguments):
    room_url: str
"""
CLOUD_AGENT = """
from dataclasses import dataclass
from pipecat.runner.types import WebSocketRunnerArguments

@dataclass
class SessionArguments:
    session_id: str | None

@dataclass
class WebSocketSessionArguments(WebSocketRunnerArguments, SessionArguments):
    pass
"""


@pytest.fixture(autouse=True)
def pipecat(tmp_path: Path) -> Iterator[None]:
    for name, text in (("pipecat/runner/types.py", RUNNER_TYPES), ("pipecatcloud/agent.py", CLOUD_AGENT)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    path, modules = sys.path[:], set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("pipecat", "pipecatcloud", "mybot", "mybot_inside"):
            del sys.modules[name]


def loaded(folder: Path, text: str) -> Bot:
    (folder / "mybot.py").write_text(text)
    return load(str(folder / "mybot.py"))


TYPES = "from pipecat.runner.types import *\n"
CLOUD = "from pipecatcloud.agent import *\n"
ONLY_CHECKED = (
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipecat.runner.types import RunnerArguments\n"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TYPES + "async def bot(runner_args: RunnerArguments): pass", None),
        (TYPES + "async def bot(x: WebSocketRunnerArguments): pass", "WebSocketRunnerArguments"),
        (TYPES + "async def bot(x: 'WebSocketRunnerArguments'): pass", "WebSocketRunnerArguments"),
        ("from __future__ import annotations\n" + TYPES + "async def bot(x: RunnerArguments): pass", None),
        (TYPES + "async def bot(x: DailyRunnerArguments | RunnerArguments): pass", None),
        (TYPES + "class Mine(WebSocketRunnerArguments): pass\nasync def bot(x: Mine): pass", "Mine"),
        (TYPES + "Renamed = RunnerArguments\nasync def bot(x: Renamed): pass", None),
        ("import pipecat.runner.types as t\nasync def bot(x: t.RunnerArguments): pass", None),
        (ONLY_CHECKED + "async def bot(x: 'RunnerArguments'): pass", None),
        (ONLY_CHECKED + "async def bot(x: 'RunnerArguments | None'): pass", None),
        (CLOUD + "async def bot(args: WebSocketSessionArguments): pass", "WebSocketSessionArguments"),
        (CLOUD + "async def bot(args: SessionArguments): pass", None),
        (TYPES + "async def bot(runner_args): pass", None),
        (TYPES + "async def bot(args): pass", None),
        ("async def bot(runner_args):\n    from pipecat.runner import types", None),
        ("from typing import Any\nimport pipecat\nasync def bot(runner_args: Any): pass", None),
        (TYPES + "class B:\n  async def __call__(self, runner_args): pass\nbot = B()", None),
        (TYPES + "import functools\nasync def f(x, a: RunnerArguments): pass\nbot = functools.partial(f, 1)", None),
    ],
)  # fmt: skip
def test_a_bot_of_pipecats_is_relayed(tmp_path: Path, text: str, kind: str | None) -> None:
    bot = loaded(tmp_path, text)
    assert bot.protocol == "relay"
    assert bot.pipecat is not None and not bot.pipecat.ours
    assert (bot.pipecat.arguments.__name__ if bot.pipecat.arguments is not None else None) == kind


@pytest.mark.parametrize(
    "text",
    [
        "async def bot(call): pass",
        "async def bot(runner_args): pass",  # of what runner?
        "import pipecat\nasync def bot(call): pass",  # a part of Pipecat in a bot of ours
        "import pipecat\nfrom gateway.worker import Call\nasync def bot(args: Call): pass",
        "import pipecat\nasync def bot(*args): pass",
    ],
)
def test_a_bot_of_ours_is_not(tmp_path: Path, text: str) -> None:
    bot = loaded(tmp_path, text)
    assert (bot.protocol, bot.pipecat) == ("pcm", None)


def test_a_bot_with_our_transport_speaks_pcm(tmp_path: Path) -> None:
    text = "def f():\n    import gateway.worker.pipecat\n" + TYPES + "async def bot(a: RunnerArguments): pass"
    bot = loaded(tmp_path, text)
    assert bot.protocol == "pcm" and bot.pipecat is not None and bot.pipecat.ours


def test_our_transport_may_be_imported_elsewhere_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gateway.worker.pipecat", ModuleType("gateway.worker.pipecat"))
    assert loaded(tmp_path, TYPES + "async def bot(a: RunnerArguments): pass").protocol == "pcm"
    assert loaded(tmp_path, "async def bot(call): pass").pipecat is None


def test_pipecat_may_be_imported_elsewhere_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "mybot_inside.py").write_text("import pipecat.runner.types")
    assert loaded(tmp_path, "import mybot_inside\nasync def bot(runner_args): pass").protocol == "relay"


@pytest.mark.parametrize("annotation", ["DailyRunnerArguments", "'SmallWebRTCRunnerArguments'"])
def test_arguments_without_a_websocket_are_refused(tmp_path: Path, annotation: str) -> None:
    with pytest.raises(BotError, match=r"`bot` takes .*RunnerArguments, which has no WebSocket, as phone calls have"):
        loaded(tmp_path, TYPES + f"async def bot(a: {annotation}): pass")
