"""What `deploy/` names exists, fits together, and is what the program reads: checked without engine, cluster or root.

HAProxy with real gateways behind it is in test_haproxy.py.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.__main__ import parser
from gateway.app import make_app, make_node
from gateway.metrics import Metrics
from gateway.ops import make_ops_app
from gateway.settings import Settings, load
from tests.deploy.rig import tool

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
README = (DEPLOY / "README.md").read_text()
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SECRETS = DEPLOY / "kubernetes" / "secret.yaml.example"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MARGIN = 15
"""Seconds that a gateway may need beyond its drain to end what is left (server.py: 5 s for calls, 5 s for hosts)."""

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


# HAProxy.

HAPROXY = [line.strip() for line in (DEPLOY / "haproxy.cfg").read_text().splitlines() if line.strip()]
RULES = [line for line in HAPROXY if not line.startswith("#")]


def rule(words: str) -> str:
    (found,) = {line for line in RULES if line.startswith(words)}
    return found.removeprefix(words).strip()


def test_haproxy_outlasts_every_call() -> None:
    longest = Settings(services=({"host": "a.b"},)).services[0].max_call_seconds  # type: ignore[arg-type]
    assert seconds(rule("timeout tunnel")) > longest
    assert seconds(rule("hard-stop-after")) > longest


def test_haproxy_never_changes_what_carriers_sign() -> None:
    changing = ("set-path", "set-uri", "set-query", "set-pathq", "normalize-uri", "replace-", "set-header host", "reqrep")
    assert [line for line in RULES if any(word in line for word in changing)] == []


def test_haproxy_drains_by_lbz_and_cuts_the_streams_of_the_dead() -> None:
    assert "option httpchk GET /lbz" in RULES
    assert "http-check disable-on-404" in RULES
    assert "balance leastconn" in RULES
    servers = [line for line in RULES if line.startswith(("server ", "default-server check"))]
    assert sum("on-marked-down shutdown-sessions" in line for line in servers) == 3  # the default, and two that track


def test_haproxy_repeats_webhooks_but_no_request_of_the_api() -> None:
    backends = re.split(r"^backend ", "\n".join(RULES), flags=re.M)[1:]
    retries = {part.split()[0]: re.search(r"^retry-on (.*)$", part, re.M).group(1) for part in backends}  # type: ignore[union-attr]
    assert retries == {
        "gateways": "conn-failure empty-response response-timeout",
        "gateways_internal": "conn-failure",
    }


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


# The commands that they run.


def accepted(command: list[str]) -> Any:
    """The parsed arguments of a `gateway` command line, by the program's own parser; what is before it is dropped."""
    words = [Path(word).name if word.endswith("/gateway") else word for word in command]
    if "gateway" in words:
        words = words[words.index("gateway") + 1 :]
    try:
        return parser().parse_args(words)
    except SystemExit as refused:
        raise AssertionError(f"gateway does not take {words}") from refused


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
    return {one.host for one in settings_of(filled(env_file(DEPLOY / "gateway.env.example")) | gateway["environment"]).services}


# Compose: the shape of https://github.com/compose-spec/compose-spec, as far as it is used.

SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "env_file", "environment", "healthcheck", "image", "logging", "networks",
    "ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "ulimits", "volumes",
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
            assert source == "./certs" or (DEPLOY / source).exists()
        for file in service.get("env_file", []):
            assert (DEPLOY / f"{file}.example").exists(), f"{name}: no example for {file}"
    build = COMPOSE["services"]["gateway-1"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()


def test_compose_gives_haproxy_what_its_configuration_reads() -> None:
    haproxy = COMPOSE["services"]["haproxy"]
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


def longest_call(settings: Settings) -> float:
    return max(service.max_call_seconds + service.wrapup_seconds for service in settings.services)


def test_redis_never_evicts() -> None:
    (container,) = named("StatefulSet", "redis")["spec"]["template"]["spec"]["containers"]
    for words in (COMPOSE["services"]["redis"]["command"], container["args"]):
        assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
        assert words[words.index("--save") + 1] == ""


# Secrets.


def test_examples_of_secrets_are_empty_and_every_name_is_a_setting() -> None:
    examples = [env_file(DEPLOY / "gateway.env.example"), named("Secret", "gateway")["stringData"]]
    for example in examples:
        assert set(example.values()) == {""}, "somebody would forget to replace it"
        settings = settings_of(filled(example) | {"GATEWAY_CONFIG": ""})
        assert {"twilio", "telnyx", "plivo", "exotel"} <= set(settings.carriers)
        assert settings.secret and settings.workers.keys and settings.api.keys
        assert all(config.lacks() == "" for config in settings.carriers.values())
    assert set(examples[1]) == set(examples[0]) - {"GATEWAY_PUBLIC_URL"}  # which the ConfigMap has


def test_worker_hosts_get_the_worker_key_and_nothing_of_a_gateways() -> None:
    for example in (env_file(DEPLOY / "worker.env.example"), named("Secret", "worker")["stringData"]):
        assert example == {"GATEWAY_WORKER_KEY": ""}


def test_secrets_are_not_applied_with_the_manifests() -> None:
    assert SECRETS.suffix not in (".yaml", ".yml", ".json"), "`kubectl apply -f DIR` would empty the real ones"
    assert all(document["kind"] != "Secret" for file in MANIFESTS for document in yaml.safe_load_all(file.read_text()))


# Kubernetes.

API_VERSIONS = {
    "ConfigMap": "v1", "Service": "v1", "Secret": "v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1", "NetworkPolicy": "networking.k8s.io/v1", "Ingress": "networking.k8s.io/v1",
}  # fmt: skip


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """(name, pod's spec, its labels) of each workload."""
    for workload in of_kind("Deployment", "StatefulSet"):
        template = workload["spec"]["template"]
        yield workload["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def matching(selector: dict[str, str]) -> list[dict[str, Any]]:
    return [spec for _, spec, labels in pods() if selector.items() <= labels.items()]


def test_manifests_are_of_known_kinds_and_told_apart() -> None:
    names = [(document["kind"], document["metadata"]["name"]) for document in documents()]
    assert len(set(names)) == len(names)
    for document in documents():
        assert document["apiVersion"] == API_VERSIONS[document["kind"]]


def test_selectors_find_pods() -> None:
    for workload in of_kind("Deployment", "StatefulSet"):
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    for budget in of_kind("PodDisruptionBudget"):
        assert len(matching(budget["spec"]["selector"]["matchLabels"])) == 1
    for service in of_kind("Service"):
        (spec,) = matching(service["spec"]["selector"])
        ports = {port["name"] for container in spec["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for _, spec, labels in pods():
        for constraint in spec.get("topologySpreadConstraints", []):
            assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_policies_cover_every_pod_and_name_pods_and_ports_that_exist() -> None:
    policies = of_kind("NetworkPolicy")
    for _, _, labels in pods():
        covering = [p for p in policies if p["spec"]["podSelector"]["matchLabels"].items() <= labels.items()]
        assert len(covering) == 1 and covering[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for policy in policies:
        own = matching(policy["spec"]["podSelector"]["matchLabels"])
        for entry in policy["spec"].get("ingress", []):
            assert entry["from"], "from anywhere"
            check_peers(entry["from"], entry["ports"], own)
        for entry in policy["spec"].get("egress", []):
            check_peers(entry.get("to", []), entry["ports"], [])


def check_peers(peers: list[dict[str, Any]], ports: list[dict[str, Any]], listening: list[dict[str, Any]]) -> None:
    """listening: the pods whose named ports are meant; none: those of the peers."""
    for peer in peers:
        if "podSelector" in peer:
            found = matching(peer["podSelector"]["matchLabels"])
            assert found
            listening = listening or found
    names = {port["name"] for spec in listening for one in spec["containers"] for port in one.get("ports", [])}
    assert {port["port"] for port in ports if isinstance(port["port"], str)} <= names


def test_bots_reach_neither_redis_nor_the_clouds_metadata() -> None:
    (redis_in,) = named("NetworkPolicy", "redis")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in redis_in["from"]] == [{"app.kubernetes.io/name": "gateway"}]
    blocks = [peer["ipBlock"] for entry in named("NetworkPolicy", "worker")["spec"]["egress"] for peer in entry.get("to", []) if "ipBlock" in peer]
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_pods_run_without_root_and_without_the_clusters_word() -> None:
    for name, spec, _ in pods():
        assert spec["enableServiceLinks"] is False, f"{name}: GATEWAY_PORT would be taken for a setting"
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            volumes = {volume["name"] for volume in spec["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert "cpu" not in container["resources"]["limits"], "throttling is heard"


def test_pods_run_the_images_user() -> None:
    (uid,) = re.findall(r"useradd .*--uid (\d+)", DOCKERFILE)
    for name in ("gateway", "worker-support"):
        assert named("Deployment", name)["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(uid)


def gateway_pod() -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", "gateway")["spec"]["template"]["spec"]
    return spec


def worker_pod() -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", "worker-support")["spec"]["template"]["spec"]
    return spec


def kubernetes_settings(folder: Path) -> Settings:
    """What a gateway reads in its pod, once somebody has filled in the secret."""
    (container,) = gateway_pod()["containers"]
    (toml,) = named("ConfigMap", "gateway")["data"].items()
    (folder / toml[0]).write_text(toml[1])
    environ = {one["name"]: one["value"] for one in container["env"]}
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "settings"]
    assert environ["GATEWAY_CONFIG"] == f"{mount['mountPath']}/{toml[0]}"
    environ["GATEWAY_CONFIG"] = str(folder / toml[0])
    return settings_of(environ | filled(named("Secret", "gateway")["stringData"]))


def test_pods_get_secrets_that_exist() -> None:
    for spec in (gateway_pod(), worker_pod()):
        for container in spec["containers"]:
            for source in container["envFrom"]:
                assert named("Secret", source["secretRef"]["name"])


def test_gateway_pod_is_probed_where_it_answers(tmp_path: Path) -> None:
    settings = kubernetes_settings(tmp_path)
    (container,) = gateway_pod()["containers"]
    arguments = accepted(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": arguments.port, "ops": int(settings.server.ops_bind.rpartition(":")[2])}
    routes = {route.path for route in make_app(make_node(settings), lambda: True).routes}  # type: ignore[attr-defined]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
        assert container[probe]["httpGet"]["port"] in ports
    annotations = named("Deployment", "gateway")["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == ports["ops"]


def test_gateway_pod_has_more_time_than_its_drain(tmp_path: Path) -> None:
    settings = kubernetes_settings(tmp_path)
    (container,) = gateway_pod()["containers"]
    sleep, before = container["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    needed = float(before) + settings.server.drain_seconds + MARGIN
    assert gateway_pod()["terminationGracePeriodSeconds"] >= needed
    # And the probes find it out of the Service long before SIGTERM.
    readiness = container["readinessProbe"]
    assert float(before) > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_worker_pod_advertises_itself_to_the_service_of_the_gateways(tmp_path: Path) -> None:
    settings = kubernetes_settings(tmp_path)
    (container,) = worker_pod()["containers"]
    arguments = accepted(container["args"])
    assert (arguments.listen, arguments.advertise) == ("$(POD_IP)", "$(POD_IP)")
    assert {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in container["env"]
    assert arguments.service_host in {service.host for service in settings.services}
    (port,) = named("Service", "gateway")["spec"]["ports"]
    assert arguments.gateway == [f"ws://gateway:{port['port']}"]
    assert worker_pod()["terminationGracePeriodSeconds"] >= longest_call(settings)
    assert settings.registry.startswith("redis://redis:") and named("Service", "redis")


def test_ingress_opens_webhooks_and_streams_only(tmp_path: Path) -> None:
    (ingress,) = of_kind("Ingress")
    (host,) = ingress["spec"]["rules"]
    assert settings_host(kubernetes_settings(tmp_path)) == host["host"] == ingress["spec"]["tls"][0]["hosts"][0]
    assert {path["path"] for path in host["http"]["paths"]} == {"/webhooks/", "/ws"}
    for path in host["http"]["paths"]:
        assert path["backend"]["service"] == {"name": "gateway", "port": {"name": "http"}}
    longest = longest_call(kubernetes_settings(tmp_path))
    for name in ("read", "send"):
        assert float(ingress["metadata"]["annotations"][f"nginx.ingress.kubernetes.io/proxy-{name}-timeout"]) > longest


def settings_host(settings: Settings) -> str:
    return settings.public_url.removeprefix("https://")


# systemd.


def unit(path: Path) -> dict[str, list[str]]:
    """key → values, whatever the section."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_units_run_commands_that_exist() -> None:
    for path in UNITS:
        (command,) = unit(path)["ExecStart"]
        words = shlex.split(command)
        example = ["--gateway=ws://10.0.0.5:8080", "--gateway=ws://10.0.0.6:8080"]
        words = [more for word in words for more in {"$GATEWAYS": example, "$LIMITS": ["--max=3"]}.get(word, [word])]
        accepted(words)


def test_units_give_more_time_than_a_drain_takes(tmp_path: Path) -> None:
    settings = Settings(services=({"host": "a.b"},))  # type: ignore[arg-type]
    limits = {path.name: float(unit(path)["TimeoutStopSec"][0]) for path in UNITS}
    assert limits["gateway.service"] >= settings.server.drain_seconds + MARGIN
    assert limits["gateway-worker@.service"] >= longest_call(settings)


def test_units_signal_the_one_process_that_drains() -> None:
    modes = {path.name: unit(path)["KillMode"] for path in UNITS}
    assert modes == {"gateway.service": ["mixed"], "gateway-worker@.service": ["process"]}
    for path in UNITS:
        assert unit(path)["KillSignal"] == ["SIGTERM"]
        assert unit(path)["OOMPolicy"] == ["continue"]


@pytest.mark.cluster
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "gateway"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    copies = []
    for path in UNITS:
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/opt/gateway/bin/gateway", str(program)))
    verified = subprocess.run(
        [tool("systemd-analyze", "systemd"), "verify", *map(str, copies)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr


# The document.


def test_readme_names_metrics_files_and_routes_that_exist(tmp_path: Path) -> None:
    exposed = {family.name for family in Metrics().collect()}
    for name in set(re.findall(r"\bgateway_[a-z_]+", README)):
        base = re.sub(r"_(total|bucket|count|sum)$", "", name)
        assert name in exposed or base in exposed, f"{name} is no metric"
    for target in re.findall(r"\]\(([^)#]+)", README):
        if "://" not in target:
            assert (DEPLOY / target).exists(), target
    for name in re.findall(r"`([\w@.-]+\.(?:yaml|yml|service|cfg|toml|example))`", README):
        assert list(DEPLOY.rglob(name)), name
    node = make_node(kubernetes_settings(tmp_path))
    routes = {r.path for app in (make_app(node, bool), make_ops_app(node, bool)) for r in app.routes}  # type: ignore[attr-defined]
    assert {"/livez", "/readyz", "/lbz", "/metrics"} <= routes


def test_readme_runs_commands_that_exist() -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S):
        for line in block.splitlines():
            command = line.partition("   ")[0]
            if match := re.search(r"(?:^|\s)(gateway (?:serve|check|load|worker|call) .*)", command):
                accepted(shlex.split(match.group(1)))


def test_readme_says_what_each_alarm_is_read_from() -> None:
    alarms = README.partition("## What to alarm on")[2].partition("\n## ")[0]
    assert len(set(re.findall(r"\bgateway_[a-z_]+", alarms))) >= 7
