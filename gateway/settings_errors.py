"""What is wrong with settings, in plain words: a line for each mistake, with the setting's dotted name and the mend.

No line shows a value: it may be a secret.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.errors import SettingsError

PLAIN = {
    "missing": "is missing",
    "tuple_type": 'must be a list: ["…", "…"]',
    "string_type": "must be text, in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "model_type": "must be a table with settings in it",
    "model_attributes_type": "must be a table with settings in it",
}
"""pydantic's kinds of errors in words of the TOML file; `{…}` is of its `ctx`. Others keep pydantic's words."""
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""The name of a service host."""
MOST_NAMES = 8
"""Names in one line; who has misspelt one of more finds them in the documents."""
FORMS = {
    "host": "must begin with a letter or digit, and have only those, '.', '_' and '-', at most 100",
    "name": "must begin with a letter or digit, and have only those, '.', '_' and '-', at most 64",
    "region": 'must be the two capital letters of a country, like "IN"',
}
"""What a setting with a pattern must look like."""


def mistakes(
    error: ValidationError, model: type[BaseModel], tree: Mapping[str, Any], prefix: Sequence[str] = ()
) -> Iterator[SettingsError]:
    """Make an error of each mistake.

    model: of the whole. tree: what was validated. prefix: where in the file it stands.
    """
    for each in error.errors(include_input=False, include_url=False):
        place = [*prefix, *_named(each["loc"], tree)]
        name = str(each["loc"][-1]) if each["loc"] else ""
        # In words of ours, if there are any for this kind of mistake.
        if each["type"] == "extra_forbidden":
            problem = unknown(name, _known(model, each["loc"][:-1]))
        elif each["type"] == "string_pattern_mismatch":
            problem = FORMS.get(name, "has not the form that it must have")
        elif each["type"] == "tuple_type" and each["loc"] in (("services",), ("events",)):
            problem = f"must be a list of tables: begin each by [[{name}]]"
        else:
            limits = {key: f"{v:g}" if isinstance(v, float) else v for key, v in each.get("ctx", {}).items()}
            problem = PLAIN[each["type"]].format_map(limits) if each["type"] in PLAIN else each["msg"]
        yield SettingsError(".".join(place) or "settings", problem)


def unknown(name: str, known: Mapping[str, str]) -> str:
    """Say that there is no such setting, and which was meant. known: the settings there, and those of other tables with
    the table that they belong to.
    """
    here = [key for key, table in known.items() if not table]
    if table := known.get(name, ""):
        return f"there is no such setting here: it belongs in {table}"
    if near := difflib.get_close_matches(name, here, 1) or difflib.get_close_matches(name, known, 1):
        table = known[near[0]]
        return f"there is no such setting; do you mean {near[0]}{f' in {table}' if table else ''}?"
    return "there is no such setting" + (f"; there are {', '.join(sorted(here))}" if len(here) <= MOST_NAMES else "")


def _named(place: Sequence[str | int], tree: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a dotted name. A service is called by its host, if it has one: tables are not easily counted."""
    at: Any = tree
    for part in place:
        try:
            at = at[part]
        except (LookupError, TypeError):
            at = None
        host = at.get("host") if isinstance(part, int) and isinstance(at, Mapping) else None
        yield host if isinstance(host, str) and HOST.fullmatch(host) else str(part)


def _known(model: type[BaseModel], place: Sequence[str | int]) -> dict[str, str]:
    """The settings at this place, and those of the tables of `model`, with these tables' names."""
    here = model
    for part in place:
        field = here.model_fields.get(str(part))
        here = _table(field.annotation) or here if field else here
    elsewhere = {}
    for name, field in model.model_fields.items():
        table = _table(field.annotation)
        shown = f"[[{name}]]" if typing.get_origin(field.annotation) is tuple else f"[{name}]"
        elsewhere.update(dict.fromkeys(table.model_fields if table else (), shown))
    # The short form of a carrier's one account: its keys stand beside `accounts`.
    short = _table(here.model_fields["accounts"].annotation) if "accounts" in here.model_fields else None
    return elsewhere | dict.fromkeys([*here.model_fields, *(short.model_fields if short else ())], "")


def _table(annotation: Any) -> type[BaseModel] | None:
    """The table that a setting is, or that its list is of."""
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None
