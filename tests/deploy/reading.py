"""What the files of `deploy/` say, as their readers read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gateway.__main__ import parser
from gateway.settings import Settings, load
from tests.deploy.rig import DEPLOY, HAPROXY

ROOT = DEPLOY.parent
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
_HAPROXY = [line.strip() for line in HAPROXY.read_text().splitlines()]
RULES = [line for line in _HAPROXY if line and not line.startswith("#")]
"""Of haproxy.cfg, without indentation and comments."""
README = (DEPLOY / "README.md").read_text()
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SECRETS = DEPLOY / "kubernetes" / "secret.yaml.example"
MARGIN = 20
"""Seconds that a gateway may need beyond its drain (server.py): 3 s in which it still takes calls, 5 s to hand over or
end what is left, 5 s for its hosts, 3 s for its last answers; and some more."""

FILLED = {
    "GATEWAY_PUBLIC_URL": "https://voice.example.com",
    "GATEWAY_SECRET": "s" * 32,
    "GATEWAY_WORKERS__KEYS": '["w"]',
    "GATEWAY_API__KEYS": '["a"]',
    "TELNYX_PUBLIC_KEY": "cHV0IHRoZSBrZXkgb2YgeW91ciBwb3J0YWwgaGVyZSE=",
}
"""What somebody would write where the examples have nothing; anything else is just a word."""


def env_file(path: Path) -> dict[str, str]:
    """As Docker and systemd read it: no quotes, no expansion."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled(environ: dict[str, str]) -> dict[str, str]:
    return {name: value or FILLED.get(name, "word") for name, value in environ.items()}


def settings_of(environ: dict[str, str], path: str | None = None) -> Settings:
    """What the gateway makes of it. SettingsError for a variable that is no setting."""
    return load(path, environ)


def documents() -> list[dict[str, Any]]:
    files = [*MANIFESTS, SECRETS]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] in kinds]


def named(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in of_kind(kind) if one["metadata"]["name"] == name)


def seconds(text: str) -> float:
    """A duration as HAProxy and compose write it."""
    number, unit = re.fullmatch(r"([\d.]+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def longest_call(settings: Settings) -> float:
    return max(service.max_call_seconds + service.wrapup_seconds for service in settings.services)


def accepted(command: list[str]) -> Any:
    """The parsed arguments of a `gateway` command line, by the program's own parser; what is before it is dropped."""
    words = [Path(word).name if word.endswith("/gateway") else word for word in command]
    if "gateway" in words:
        words = words[words.index("gateway") + 1 :]
    try:
        return parser().parse_args(words)
    except SystemExit as refused:
        raise AssertionError(f"gateway does not take {words}") from refused
