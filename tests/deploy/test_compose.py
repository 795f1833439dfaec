"""The image and the compose file: checked for what they name, without an engine."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from tests.deploy.reading import (
    COMPOSE,
    DOCKERFILE,
    MARGIN,
    ROOT,
    RULES,
    accepted,
    env_file,
    filled,
    longest_call,
    seconds,
    settings_of,
)
from tests.deploy.rig import DEPLOY, HAPROXY

# The image.


def instructions() -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line and not line.startswith("#")]


def test_image_has_two_stages_and_the_last_one_no_compiler_and_no_root() -> None:
    lines = instructions()
    stages = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2
    assert all(re.match(r"FROM python:3\.12-slim\b", lines[index]) for index in stages)
    last = lines[stages[-1] :]
    assert not any(word in line for line in last for word in ("gcc", "build-essential", "python3-dev", "pip "))
    assert last.index("USER gateway") < next(i for i, line in enumerate(last) if line.startswith("ENTRYPOINT"))
    assert not any(line.startswith("USER") for line in last if line != "USER gateway")


def test_image_drains_when_it_is_stopped_and_is_asked_whether_it_lives() -> None:
    lines = instructions()
    assert "STOPSIGNAL SIGTERM" in lines
    (check,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert "/livez" in check
    code = json.loads(check.partition(" CMD ")[2])[-1]
    compile(code, "HEALTHCHECK", "exec")
    (entry,) = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    (command,) = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    accepted([*entry, *command])


def test_image_is_built_from_what_the_package_needs_and_nothing_else() -> None:
    copied = [line.split()[1:-1] for line in instructions() if line.startswith("COPY ") and "--from" not in line]
    names = {name for names in copied for name in names}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert names == kept
    assert all((ROOT / name).exists() for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"} <= names
    assert {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]} <= names


@pytest.mark.parametrize("name", [name for name in COMPOSE["services"] if name not in ("haproxy", "redis")])
def test_compose_runs_commands_that_exist(name: str) -> None:
    arguments = accepted(COMPOSE["services"][name]["command"])
    if arguments.command == "worker":
        assert arguments.advertise == name  # the name that the others resolve it by
        gateways = {f"ws://{one}:8080" for one in COMPOSE["services"] if one.startswith("gateway-")}
        assert set(arguments.gateway) == gateways
        assert arguments.service_host in services_of_compose()
    else:
        assert (arguments.host, arguments.port) == ("0.0.0.0", 8080)


def services_of_compose() -> set[str]:
    gateway = COMPOSE["services"]["gateway-1"]
    return {
        one.host
        for one in settings_of(filled(env_file(DEPLOY / "gateway.env.example")) | gateway["environment"]).services
    }


# Compose: the shape of https://github.com/compose-spec/compose-spec, as far as it is used.

SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "env_file", "environment", "healthcheck", "image", "logging",
    "networks", "ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "ulimits", "volumes",
}  # fmt: skip


def test_compose_has_the_shape_of_the_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services", "networks"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert all(isinstance(word, str) for word in service.get("command", [])), name
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        assert set(service.get("depends_on", [])) <= set(COMPOSE["services"]), name
        for mount in service.get("volumes", []):
            source, target, mode = mount.split(":")
            assert source.startswith("./") and target.startswith("/") and mode == "ro"
            # A folder: a file that git or an editor puts in the place of a mounted one is not seen in the container.
            assert source == "./certs" or (DEPLOY / source).is_dir()
        for file in service.get("env_file", []):
            assert (DEPLOY / f"{file}.example").exists(), f"{name}: no example for {file}"
    build = COMPOSE["services"]["gateway-1"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()


def test_compose_gives_haproxy_what_its_configuration_reads() -> None:
    haproxy = COMPOSE["services"]["haproxy"]
    folder = "/usr/local/etc/haproxy"  # where the image reads haproxy.cfg
    assert f"./{HAPROXY.parent.name}:{folder}:ro" in haproxy["volumes"]
    read = set(re.findall(r"\$\{(\w+)\}", "\n".join(RULES)))
    assert set(haproxy["environment"]) <= read
    for variable in ("GATEWAY_1", "GATEWAY_2"):
        host, port = haproxy["environment"][variable].split(":")
        assert accepted(COMPOSE["services"][host]["command"]).port == int(port)


def test_compose_publishes_nothing_but_tls() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"haproxy": ["443:443"]}


def test_compose_keeps_bots_away_from_redis_and_from_the_gateways_secrets() -> None:
    assert COMPOSE["networks"]["registry"] == {"internal": True}
    for name, service in COMPOSE["services"].items():
        if name.startswith("worker"):
            assert service["networks"] == ["bots"]
            assert service["env_file"] == ["worker.env"]


def test_compose_gives_more_time_than_a_drain_takes() -> None:
    for name in ("gateway-1", "gateway-2"):
        service = COMPOSE["services"][name]
        settings = settings_of(filled(env_file(DEPLOY / "gateway.env.example")) | service["environment"])
        assert seconds(service["stop_grace_period"]) >= settings.server.drain_seconds + MARGIN
        assert seconds(COMPOSE["services"]["haproxy"]["stop_grace_period"]) >= settings.server.drain_seconds + MARGIN
    for name in ("worker-1", "worker-2"):
        assert seconds(COMPOSE["services"][name]["stop_grace_period"]) >= longest_call(settings)
