"""Keep README.md, docs/, the other documents and the example settings true.

The ten-line bot runs; each command, flag, setting, variable, route, make target, link and file that is named exists;
what is said not to be there is not there: the change that builds it fails here until the pages say so.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from starlette.routing import Match

from gateway.__main__ import main, parser
from gateway.api.models import HangupRequest, StartRequest
from gateway.audio.files import read_wav, write_wav
from gateway.carriers import CARRIERS
from gateway.cli import COMMANDS
from gateway.cli.demo import HEADER
from gateway.metrics import Metrics
from gateway.protocol.codes import EndReason
from gateway.serve.app import make_app, make_node
from gateway.serve.ops import make_ops_app
from gateway.sessions.table import Sessions
from gateway.settings import PREFIX, ServiceSettings, Settings, load
from gateway.settings_events import EventsSettings
from gateway.worker import Call
from serializers.call_data import CallData
from tests.acceptance.program import Gateway, run

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
"""What users read, from the front door on."""
DOCUMENTS = (*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
EXAMPLE = ROOT / "deploy" / "gateway.example.toml"


def text(name: str) -> str:
    return (ROOT / name).read_text()


README = text("README.md")
MOST_OF_README = 8 * 1024
"""Bytes: a front door is read in one sitting."""
MOST_LINES = 110
"""Of a page in docs/: one screen or two."""
BUILT, _, REST = text("docs/limits.md").partition("Not built in this version")
NOT_BUILT, _, AFTER = REST.partition("\nNot tried:")
PROMISED = "\n".join([BUILT + AFTER, *(text(page) for page in PAGES if page != "docs/limits.md")])


def blocks(document: str) -> Iterator[tuple[str, str]]:
    """(language, content) of each fenced block; the prose between them is "prose"."""
    for number, part in enumerate(re.split(r"^```", document, flags=re.M)):
        language, _, content = part.partition("\n")
        yield (language, content) if number % 2 else ("prose", part)


def fenced(document: str, language: str) -> list[str]:
    return [content for tongue, content in blocks(document) if tongue == language]


def spans(document: str) -> list[str]:
    """What stands between backticks, outside of fenced blocks."""
    return [span for prose in fenced(document, "prose") for span in re.findall(r"`([^`\n]+)`", prose)]


# The pages.


def test_readme_is_a_front_door() -> None:
    assert len(README.encode()) <= MOST_OF_README
    for page in PAGES[1:]:
        assert f"({page})" in README, f"README.md does not lead to {page}"


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_is_one_screen_or_two(page: str) -> None:
    assert len(text(page).splitlines()) <= MOST_LINES


# The bot.


def test_bot_has_ten_lines_and_the_readme_runs_it() -> None:
    (bot,) = fenced(README, "python")
    assert len([line for line in bot.splitlines() if line]) <= 10
    assert "gateway serve --dev --bot bot.py\n" in "".join(fenced(README, "sh"))


def test_bot_serves_all_carriers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bot,) = fenced(README, "python")
    (tmp_path / "bot.py").write_text(bot)
    pcm, rate = read_wav(ROOT / "fixtures" / "speech.wav")
    write_wav(tmp_path / "second.wav", pcm[:rate], rate)

    with Gateway("--dev", "--bot", str(tmp_path / "bot.py"), "--port", "0") as gateway:
        for carrier in CARRIERS:
            saved = tmp_path / f"{carrier}.wav"
            call = ("call", "--carrier", carrier, "--url", gateway.url, "--audio", str(tmp_path / "second.wav"))
            assert main([*call, "--save", str(saved)]) == 0, capsys.readouterr()
            heard, _ = read_wav(saved)
            assert abs(heard.astype(int)).max() > 1000, f"the caller heard nothing: {capsys.readouterr()}"
        gateway.assert_clean()


# Commands.


def named_commands(document: str) -> Iterator[tuple[str, list[str]]]:
    """(command, flags) of each `gateway …` in code."""
    lines = [line for block in fenced(document, "sh") for line in block.splitlines()]
    lines += re.findall(r"^# +(gateway .*)$", document, re.M)  # in the example's head
    for line in [*lines, *spans(document)]:
        words = shlex.split(line.partition("     #")[0], comments=True) if line.count("'") % 2 == 0 else []
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if len(words) > 1 and words[0] == "gateway" and re.fullmatch("[a-z]+", words[1]):
            yield words[1], [word for word in words[2:] if word.startswith("--")]


def flags_of(command: str) -> set[str]:
    (commands,) = (action for action in parser()._actions if hasattr(action, "choices") and action.choices)
    return {flag for flag in commands.choices[command]._option_string_actions if flag.startswith("--")} - {"--help"}


@pytest.mark.parametrize("name", [*DOCUMENTS, "deploy/gateway.example.toml"])
def test_commands_and_flags_exist(name: str) -> None:
    document = BUILT + AFTER if name == "docs/limits.md" else text(name)
    for command, flags in named_commands(document):
        assert command in COMMANDS, f"gateway {command}: there is no such command"
        assert set(flags) <= flags_of(command), f"gateway {command} has no {set(flags) - flags_of(command)}"


def test_every_command_and_flag_is_in_the_table() -> None:
    table = text("docs/commands.md").partition("\n## ")[0]
    for command in COMMANDS:
        (row,) = re.findall(rf"^\| `gateway {command}` \|.*$", table, re.M)
        named, known = set(re.findall(r"--[a-z-]+", row)), flags_of(command)
        assert named == known, f"gateway {command}: the table and the parser differ by {named ^ known}"


def test_demo_prints_the_table_shown() -> None:
    table = next(block for block in fenced(README, "") if "every call was whole" in block)
    assert list(HEADER) in [re.split(r" {2,}", line) for line in table.splitlines()]
    for carrier in CARRIERS:
        (row,) = re.findall(rf"^{carrier} .*$", table, re.M)
        assert len(row.split()) == len(HEADER)
    assert max(map(len, table.splitlines())) <= 80


# Settings.


def keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def sections() -> dict[str, set[str]]:
    """The keys of each table of the file, by its dotted name; "" is the top."""
    found = {"": keys(Settings), "services": keys(ServiceSettings), "events": keys(EventsSettings)}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = keys(field.annotation)
    for name, entry in CARRIERS.items():
        account = entry.config.model_fields["accounts"].annotation.__args__[0]
        found[f"carriers.{name}"] = keys(entry.config) | keys(account)
    return found


def words() -> set[str]:
    """All names_with_an_underscore that a user can meet."""
    known = set().union(*sections().values()) | keys(CallData) | {str(reason) for reason in EndReason}
    known |= {name for name in dir(Call) if not name.startswith("_")} | keys(HangupRequest) | keys(StartRequest)
    slots = re.findall(r"self\.([a-z_]+) = start\.", text("gateway/worker/api.py"))
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    return known | set(slots) | {name for name in re.findall(r'"([a-z_]+)"', sources) if "_" in name}


PIPECATS = {"parse_telephony_websocket"}
"""Names of Pipecat's own, which our sources need not have."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_words_exist(name: str) -> None:
    known = words() | PIPECATS
    for span in spans(text(name)):
        if span.startswith("gateway_"):
            continue  # a metric
        for word in re.findall(r"(?<![\w./-])[a-z]+(?:_[a-z]+)+(?![\w./(-])", span):
            assert word in known or (name == "CONTRIBUTING.md" and "(" in span), (
                f"`{word}` in {name}: there is no such name"
            )


def test_methods_exist() -> None:
    table = PROMISED.partition("| `Call` | |")[2].partition("\n\n")[0]
    named = {name for span in spans(table) for name in re.findall(r"^([a-z_]+)\(", span)}
    assert named == {name for name, value in vars(Call).items() if callable(value) and not name.startswith("_")}


def test_assignments_exist() -> None:
    for span in spans(PROMISED):
        for key in re.findall(r"^([a-z_]+) = ", span):
            assert any(key in section for section in sections().values()), f"`{span}`: there is no such setting"
    for section, key in re.findall(r"`\[([a-z]+)\] ([a-z_]+)`", PROMISED + text("SECURITY.md")):
        assert key in sections()[section], f"[{section}] {key}: there is no such setting"


def test_toml_blocks_are_settings(tmp_path: Path) -> None:
    pages = ("README.md", "docs/configuration.md", "docs/pipecat.md")
    blocks = [block for page in pages for block in fenced(text(page), "toml")]
    assert blocks
    for block in blocks:
        file = tmp_path / "gateway.toml"
        file.write_text(block)
        load(str(file), {})


@pytest.mark.parametrize("name", [*DOCUMENTS, "deploy/gateway.example.toml"])
def test_variables_exist(name: str) -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    if name == "CONTRIBUTING.md":
        sources += "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for variable in set(re.findall(r"\b[A-Z]+(?:_+[A-Z]+)+\b", text(name))):
        if variable in ("STREAM_KEY", "HMAC_SHA256"):  # stands for a value; an algorithm
            continue
        *parents, key = variable.removeprefix(PREFIX).lower().split("__")
        setting = variable.startswith(PREFIX) and key in sections().get(".".join(parents), set())
        assert setting or f'"{variable}"' in sources or re.search(rf"^{variable}(: .*)? = ", sources, re.M), (
            f"{variable} in {name} is unknown"
        )


# The example.


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(), flags=re.M)


def test_example_says_what_is_missing() -> None:
    done = run("check", "--no-measure", "--config", str(EXAMPLE))
    faults = [line for line in done.stdout.splitlines() if not line.startswith("note:")]
    assert done.returncode == 1, done.stderr
    assert [fault.partition(":")[0] for fault in faults] == ["secret", "carriers"]


def test_example_with_secrets_takes_calls() -> None:
    env = {"GATEWAY_SECRET": "s" * 32, "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token"}
    done = run("check", "--no-measure", "--config", str(EXAMPLE), env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_holds_no_secret() -> None:
    settings = load(str(EXAMPLE), {})
    assert not settings.secret and not settings.carriers and not settings.api.keys and not settings.workers.keys


def test_example_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(uncommented())
    load(str(file), {})
    tree = tomllib.loads(uncommented())
    for dotted, known in sections().items():
        table: Any = tree
        for part in filter(None, dotted.split(".")):
            table = table[part]
        if isinstance(table, list):
            (table,) = table
        named = set(table) | {key for account in table.get("accounts", ()) for key in account}
        # Where a carrier has more than one account is shown once.
        missing = known - named - ({"accounts"} if dotted.startswith("carriers.") else set())
        assert not missing, f"[{dotted}] of the example lacks {missing}"


def test_example_shows_the_defaults() -> None:
    service = tomllib.loads(EXAMPLE.read_text())["services"][0]
    for key, value in re.findall(r"Default\.\n([a-z_]+) = (.+)$", EXAMPLE.read_text(), re.M):
        if key in service:
            shown = ServiceSettings.model_validate({"host": "a", key: tomllib.loads(f"v = {value}")["v"]})
            assert getattr(shown, key) == ServiceSettings.model_fields[key].default, f"{key} = {value} is no default"


# Routes, files, targets.


@pytest.fixture(scope="module")
def routes() -> list[Any]:
    settings = Settings(public_url="http://127.0.0.1:1", services=(ServiceSettings(host="echo"),))
    node = make_node(settings, dev=True)
    return [*make_app(Sessions(node), lambda: True).routes, *make_ops_app(node, lambda: True).routes]


def served(routes: list[Any], method: Literal["GET", "POST"], path: str) -> bool:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    return any(route.matches(scope)[0] is not Match.NONE for route in routes)


def test_routes_exist(routes: list[Any]) -> None:
    webhooks = set(re.findall(r"(?:voice\.example\.com|…)(/webhooks/[a-z]+/[a-z]+)", PROMISED))
    assert {path.split("/")[2] for path in webhooks} == set(CARRIERS)
    for path in webhooks:
        assert served(routes, "POST", path), f"{path} is not served"
    for path in re.findall(r"`GET (/[a-z]+)`", PROMISED):
        assert served(routes, "GET", path), f"GET {path} is not served"


def test_metrics_exist() -> None:
    exposed = Metrics().expose({})
    for name in (span for span in spans(PROMISED) if re.fullmatch("gateway_[a-z_]+", span)):
        assert f"# HELP {name} ".encode() in exposed, f"{name}: there is no such metric"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(name)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        page = (ROOT / name).parent / file if file else ROOT / name
        assert page.exists(), f"{name}: there is no {file}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{name}: {file or name} has no heading for #{anchor}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name: str) -> None:
    for span in spans(text(name)):
        for path in re.findall(r"(?:^| )((?:gateway|serializers|tests|fixtures|deploy)/[\w./-]+)(?![\w./<-])", span):
            assert (ROOT / path).exists(), f"{name}: there is no {path}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    known = re.findall(r"^([a-z-]+):", text("Makefile"), re.M)
    for target in re.findall(r"(?:^|`|=\S* )make ([a-z-]+)", text(name), re.M):
        assert target in known, f"{name}: make {target}: there is no such target"


def test_rooms_are_those_that_the_linter_checks() -> None:
    layers = text(".importlinter").partition("layers =\n")[2].partition("\n[")[0]
    rooms = [*re.findall(r"\w+", layers), "serializers"]
    assert len(rooms) > 15
    named = text("CONTRIBUTING.md").partition("## The rooms")[2].partition("\n## ")[0]
    for room in rooms:
        assert re.search(rf"\b{room}(?:\.py|/)", named), f"CONTRIBUTING.md does not name the room {room}"


def test_changelog_has_this_version() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert f"## [{version}]" in text("CHANGELOG.md")
    assert f"version {version}:" in README


# What is not there.


def test_what_is_not_built_is_not_there(routes: list[Any]) -> None:
    said = spans(NOT_BUILT)
    assert said, "the section has moved"
    for span in said:
        method, _, path = span.partition(" ")
        if method in ("GET", "POST"):
            assert not served(routes, "GET" if method == "GET" else "POST", path), f"{span} is there: README says not"
        if span.startswith("gateway "):
            assert path not in COMMANDS, f"{span} is there: README says it is not"
        if span.startswith("--"):
            assert not any(span in flags_of(command) for command in COMMANDS), f"{span} is there: README says not"


def comment_on(key: str) -> str:
    """What the example says of a key that is off: the comment right above it, or above its neighbours."""
    lines = EXAMPLE.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"#{key} = "))
    while re.match(r"#[a-z_]+ = ", lines[at]):
        at -= 1
    said = []
    while lines[at].startswith("# "):
        said.insert(0, lines[at].removeprefix("# "))
        at -= 1
    return " ".join(said)


def test_dialout_is_applied_as_the_example_says(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(uncommented())
    settings = load(str(file), {})
    assert "`[dialout] allow`" in PROMISED and "No effect" not in comment_on("allow")
    assert settings.dialout.allow == ("+1", "GB")
    allowed = make_node(settings.model_copy(update={"registry": "memory", "services": ()})).dial_allowed
    assert allowed("+12125550100") and allowed("+442079460000") and not allowed("+33140000000")
    assert not make_node(Settings(public_url="http://127.0.0.1:1"), dev=True).dial_allowed("+12125550100")


def test_dialout_keys_that_nothing_reads_are_said_to_have_no_effect() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    for key in keys(type(Settings().dialout)):
        assert ("No effect" in comment_on(key)) == (f".dialout.{key}" not in sources), f"[dialout] {key}"


# What is said in several places.

OUTLAST = (
    "Calls that outlast drain_seconds go to another gateway, each with its bot; "
    'with registry = "memory", and if they are static streams or relay calls on static workers, they are hung up'
)


@pytest.mark.parametrize(
    "name", ["docs/operating.md", "docs/failures.md", "deploy/README.md", "deploy/gateway.example.toml"]
)
def test_what_outlasts_a_drain_is_told_alike(name: str) -> None:
    told = " ".join(re.sub(r"^# |`", "", text(name), flags=re.M).split())
    assert told.count(OUTLAST) == 1
    assert len(re.findall(r"after drain_seconds", told, re.I)) == 0
