"""The rules of the house that a machine can keep: sizes, names, and which module may import which.

The order of the rooms is in `.importlinter`. import-linter keeps it too; here a circle inside a room is found as well,
and every import counts: those for type checkers and those inside functions.
"""

from __future__ import annotations

import ast
import configparser
import gc
import graphlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "serializers")
MAX_MODULE = 400
MAX_FUNCTION = 50
MAX_TEST_NAME = 70
"""Lines, lines, characters."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees(*folders: str) -> dict[Path, ast.Module]:
    """Parse every Python file below these folders, by its path from the root."""
    paths = itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    gc.disable()  # a collection within ast.parse fails with "recursion depth mismatch" (CPython issue 106905)
    try:
        return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted(paths)}
    finally:
        gc.enable()


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, known: frozenset[str]) -> Iterator[str]:
    """Yield the known modules that are imported anywhere in a tree, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in line {node.lineno}"
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (found for found in ((m if m in known else node.module) for m in members) if found in known)


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def layers() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the name and the layers of each contract of order, highest first; siblings stand in one layer."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    for section in contracts.sections():
        if contracts.get(section, "type", fallback="") == "layers":
            rows = [row.split("|") for row in contracts.get(section, "layers").split("\n") if row.strip()]
            for container in contracts.get(section, "containers", fallback="").split() or [""]:
                yield (
                    contracts.get(section, "name"),
                    [[f"{container}.{name.strip(' ()')}".strip(".") for name in row] for row in rows],
                )


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Which module of ours imports which others of ours."""
    parsed = {module_name(path): tree for path, tree in trees(*PACKAGES).items()}
    known = frozenset(parsed)
    return {name: set(imports(tree, known)) - {name} for name, tree in parsed.items()}


def test_no_module_is_too_long() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in trees(*PACKAGES)}
    found = [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MAX_MODULE]
    assert not found, "\n".join(found)


def test_no_function_is_too_long() -> None:
    found = []
    for path, tree in trees(*PACKAGES).items():
        for function in functions(tree):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > MAX_FUNCTION:
                found.append(f"{path}:{function.lineno} {function.name}: {lines} lines")
    assert not found, "\n".join(found)


def test_no_name_of_a_test_is_too_long() -> None:
    found = []
    for path, tree in trees("tests").items():
        for function in functions(tree):
            if function.name.startswith("test_") and len(function.name) > MAX_TEST_NAME:
                found.append(f"{path}:{function.lineno} {function.name}: {len(function.name)} characters")
    assert not found, "\n".join(found)


def test_no_import_is_part_of_a_circle(graph: dict[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_rooms_import_each_other(graph: dict[str, set[str]]) -> None:
    def room(module: str) -> str:
        return ".".join(module.split(".")[:2]) if is_in(module, "gateway") else module.split(".")[0]

    rooms: dict[str, set[str]] = {room(module): set() for module in graph}
    for module, imported in graph.items():
        rooms[room(module)] |= {room(other) for other in imported} - {room(module)}
    try:
        graphlib.TopologicalSorter(rooms).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_import_goes_up(graph: dict[str, set[str]]) -> None:
    found = []
    for name, rows in layers():
        rank = {layer: height for height, row in enumerate(rows) for layer in row}
        for module, imported in graph.items():
            home = next((layer for layer in rank if is_in(module, layer)), None)
            for other in sorted(imported):
                there = next((layer for layer in rank if is_in(other, layer)), None)
                if home and there and home != there and rank[there] <= rank[home]:
                    found.append(f"{name}: {module} imports {other}")
    assert not found, "\n".join(found)


def test_every_module_has_its_place_in_the_order(graph: dict[str, set[str]]) -> None:
    placed = {layer for _, rows in layers() for row in rows for layer in row}
    rooms = {module for module in graph if module.count(".") == 1 and is_in(module, "gateway")}
    assert not rooms - placed, "not in .importlinter"


def test_every_room_has_an_order_inside(graph: dict[str, set[str]]) -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    ordered = {
        container
        for section in contracts.sections()
        if contracts.get(section, "exhaustive", fallback="") == "true"
        for container in contracts.get(section, "containers").split()
    }
    packages = {module.rpartition(".")[0] for module in graph} - {""}
    assert not packages - ordered, "no exhaustive contract in .importlinter"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import gateway.errors", {"gateway.errors"}),
        ("from gateway import errors", {"gateway.errors"}),
        ("from gateway.errors import UsageError", {"gateway.errors"}),
        ("if TYPE_CHECKING:\n    from gateway.errors import UsageError", {"gateway.errors"}),
        ("def later():\n    import gateway.errors as e", {"gateway.errors"}),
        ("import json", set()),
    ],
)
def test_every_kind_of_import_counts(text: str, found: set[str]) -> None:
    assert set(imports(ast.parse(text), frozenset({"gateway", "gateway.errors"}))) == found
