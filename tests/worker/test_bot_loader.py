from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import BotError
from gateway.worker import echo
from gateway.worker.bot_loader import check_target, is_ours, load


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("mybot", "bot_", "neighbour")):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_module_and_its_default_function() -> None:
    bot = load("gateway.worker.echo")
    assert bot.run is echo.bot and bot.prewarm is None
    assert load("gateway.worker.echo:bot").run is echo.bot


def test_a_file_with_neighbours_prewarm_and_a_function_of_another_name(tmp_path: Path) -> None:
    write(tmp_path, "neighbour.py", "x = 1")
    target = write(tmp_path, "mybot.py", "import neighbour\ndef prewarm(): pass\nasync def talk(call): pass\n")
    bot = load(target + ":talk")
    assert bot.run.__name__ == "talk" and bot.prewarm is not None and bot.target == target + ":talk"


def test_a_file_that_is_called_like_a_module_hides_nothing(tmp_path: Path) -> None:
    import json

    assert load(write(tmp_path, "json.py", "async def bot(call): pass")).run.__module__ == "bot_json"
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    "text",
    [
        "import functools\nasync def f(x, call): pass\nbot = functools.partial(f, 1)",
        "class B:\n  async def __call__(self, call): pass\nbot = B()",
        "async def bot(call, *args, extra=1, **kw): pass",
    ],
    ids=["partial", "object", "optional arguments"],
)
def test_what_can_be_called_as_a_bot_is_one(tmp_path: Path, text: str) -> None:
    load(write(tmp_path, "mybot.py", text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "has no `bot`; write `async def bot(call): …`"),
        ("def bot(call): pass", "`bot` is not an async function"),
        ("bot = 1", "`bot` is not an async function"),
        ("async def bot(): pass", "takes 0 arguments, not one: the call; write `async def bot(call): …`"),
        ("async def bot(call): yield", "`bot` has a `yield`; take it out, and speak by `await call.play(pcm)`"),
        ("async def bot(call): pass\nasync def prewarm(): pass", "`prewarm` is async; write `def prewarm(): …`"),
        ("import no_such", "install the package that has it where the gateway is installed: python -m pip install …"),
        ("raise SystemExit", "; a bot's module is imported, not run: leave out what ends the process"),
        ("async def bot(a, b): pass", "takes 2 arguments, not one"),
        ("async def bot(args: 'RunnerArguments'): pass", "takes Pipecat's arguments, and there is no Pipecat: install"),
        ("import no_such", "importing it failed: ModuleNotFoundError: No module named 'no_such' (mybot.py, line 1)"),
        ("x = 1\nraise SystemExit", "importing it failed: SystemExit (mybot.py, line 2)"),
        ("async def bot(call:\n", "importing it failed: SyntaxError"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    target = write(tmp_path, "mybot.py", text)
    with pytest.raises(BotError) as e:
        load(target)
    assert line in str(e.value) and str(e.value).startswith(target) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("no/such/bot.py", "there is no such file"),
        ("no_such_package.bot", "there is no such module here; a bot is path/bot.py or package.module:function"),
        ("gateway.worker.nothing:bot", "there is no such module here"),
        ("gateway.worker.echo:other", "has no `other`"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(target: str, line: str) -> None:
    with pytest.raises(BotError, match=line):
        load(target)


def test_a_module_that_fails_to_import_names_the_error(tmp_path: Path) -> None:
    write(tmp_path, "mybot_raises.py", "1 / 0")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(BotError, match="mybot_raises: importing it failed: ZeroDivisionError: division by zero"):
        load("mybot_raises")
    write(tmp_path, "mybot_needs.py", "import neither_here_nor_there")
    with pytest.raises(BotError, match="No module named 'neither_here_nor_there'"):
        load("mybot_needs")


def test_a_module_in_the_working_directory_is_found_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "mybot_here.py", "async def bot(call): pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as the command `gateway` has it
    check_target("mybot_here:bot")
    assert not is_ours(load("mybot_here:bot"))
    assert is_ours(load("gateway.worker.echo:bot"))


@pytest.mark.parametrize("target", ["mybot.py", "no_such_module"])
def test_where_it_was_looked_for_is_said(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BotError, match=f"{target}: there is no such .* in {tmp_path}"):
        check_target(target)
