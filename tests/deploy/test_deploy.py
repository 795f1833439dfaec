"""HAProxy's configuration as text, the secrets of all ways to deploy, and the document.

HAProxy with real gateways behind it is in test_haproxy.py.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from typing import get_args

import yaml

from gateway.carriers import CARRIERS
from gateway.metrics import Metrics
from gateway.pool.registry import PoolCounts
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import WorkerEnd
from gateway.serve.app import make_app, make_node
from gateway.serve.ops import make_ops_app
from gateway.sessions.table import Sessions
from gateway.settings import ServiceSettings, Settings
from gateway.simulator import Credentials
from gateway.simulator.telnyx import TelnyxAccount
from tests.deploy.reading import (
    COMPOSE,
    FILLED,
    MANIFESTS,
    README,
    ROOT,
    RULES,
    SECRETS,
    accepted,
    env_file,
    filled,
    longest_call,
    named,
    seconds,
    settings_of,
)
from tests.deploy.rig import DEPLOY

# HAProxy.


def rule(words: str) -> str:
    (found,) = {line for line in RULES if line.startswith(words)}
    return found.removeprefix(words).strip()


def test_haproxy_outlasts_every_call() -> None:
    longest = longest_call(Settings(services=(ServiceSettings(host="a.b"),)))
    assert seconds(rule("timeout tunnel")) > longest
    assert seconds(rule("hard-stop-after")) > longest


def test_haproxy_never_changes_what_carriers_sign() -> None:
    changing = (
        "set-path",
        "set-uri",
        "set-query",
        "set-pathq",
        "normalize-uri",
        "replace-",
        "set-header host",
        "reqrep",
    )
    assert [line for line in RULES if any(word in line for word in changing)] == []


def test_haproxy_drains_by_lbz_and_cuts_the_streams_of_the_dead() -> None:
    assert "option httpchk GET /lbz" in RULES
    assert "http-check disable-on-404" in RULES
    assert "balance leastconn" in RULES
    servers = [line for line in RULES if line.startswith(("server ", "default-server check"))]
    assert (
        sum("on-marked-down shutdown-sessions" in line for line in servers) == 3
    )  # the default, and the two of the internal side


def test_haproxy_repeats_webhooks_but_no_request_of_the_api() -> None:
    backends = re.split(r"^backend ", "\n".join(RULES), flags=re.M)[1:]
    retries = {part.split()[0]: re.search(r"^retry-on (.*)$", part, re.M).group(1) for part in backends}  # type: ignore[union-attr]
    assert retries == {
        "gateways": "conn-failure empty-response response-timeout",
        "webhooks": "conn-failure empty-response response-timeout",
        "gateways_internal": "conn-failure",
    }


# Redis.


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


# The document.


def section(heading: str) -> str:
    found = README.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    assert found, f"there is no {heading}"
    return found


def test_readme_names_metrics_files_and_routes_that_exist() -> None:
    exposed = {family.name for family in Metrics().collect()}
    named = set(re.findall(r"\bgateway_[a-z_]+", README))
    assert len(named) >= 10
    for name in named:
        base = re.sub(r"_(total|bucket|count|sum)$", "", name)
        assert name in exposed or base in exposed, f"{name} is no metric"
    links = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert len(links) >= 8
    for target in links:
        assert (DEPLOY / target).exists(), target
    files = re.findall(r"`([\w@.-]+\.(?:yaml|yml|service|cfg|toml|example))`", README)
    assert len(files) >= 8
    for name in files:
        assert list(DEPLOY.rglob(name)) or name == "gateway.toml", name  # the copy of gateway.example.toml
    node = make_node(settings_of(FILLED | {"GATEWAY_SERVICES": '[{"host": "a.b"}]'}))
    apps = (make_app(Sessions(node), bool), make_ops_app(node, bool))
    routes = {getattr(route, "path", "") for app in apps for route in app.routes}
    assert {"/livez", "/readyz", "/lbz", "/metrics"} <= routes


def commands() -> list[str]:
    """The lines of its shell blocks, without what is said behind them."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    return [line.partition("   ")[0] for block in blocks for line in block.splitlines()]


def test_readme_runs_commands_that_exist() -> None:
    found = [match for line in commands() if (match := re.search(r"(?:^|\s)(gateway (?:check|load) .*)", line))]
    assert len(found) == 2
    for match in found:
        accepted(shlex.split(match.group(1)))


def test_readme_copies_and_edits_files_that_exist() -> None:
    paths = [word for line in commands() for word in line.split() if word.startswith("deploy/")]
    assert len(paths) >= 8
    for path in paths:
        assert list(ROOT.glob(path.rstrip("/"))), path
    image = "image: carrier-stream-gateway:0.1.0"
    (edit,) = [line for line in commands() if line.startswith("sed ")]
    assert f"s#{image}#" in edit
    assert {path for path in edit.split() if path.startswith("deploy/")} == {
        f"deploy/kubernetes/{file.name}" for file in MANIFESTS if image in file.read_text()
    }


def test_readme_makes_a_key_pair_for_telnyx() -> None:
    (line,) = [line for line in commands() if "TELNYX_SIGNING_SEED" in line]
    python, *rest = shlex.split(line)
    assert python == "/opt/gateway/bin/python"
    made = subprocess.run([sys.executable, *rest], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    pair = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert pair["TELNYX_PUBLIC_KEY"] == TelnyxAccount.from_env(pair).public_key
    key = settings_of({"TELNYX_API_KEY": "word"} | pair).carrier("telnyx")
    assert key is not None and key.lacks() == ""


def test_readme_names_the_credentials_that_the_load_signs_with() -> None:
    named = set(re.findall(r"`((?:TWILIO|TELNYX|PLIVO|EXOTEL)_\w+)`", section("## Sizing")))
    read = {name for account in Credentials.generate().values() for name in account.env.values()}
    assert read - named == {"TELNYX_CONNECTION_ID"}  # has a default
    assert named - read == {"TELNYX_PUBLIC_KEY"} <= set(CARRIERS["telnyx"].env)


def words_of(*places: str) -> set[str]:
    """All strings that these files and packages of the gateway write in full."""
    roots = [ROOT / "gateway" / place for place in places]
    files = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*.py"))]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_readme_asks_for_label_values_that_exist() -> None:
    conductor = ("webhooks", "streams", "sessions", "node")
    refused, calls = words_of(*conductor, "carriers", "serve"), words_of(*conductor)
    known = {
        ("gateway_worker_slots", "state"): set(PoolCounts.__slots__),
        ("gateway_worker_ends_total", "reason"): set(get_args(WorkerEnd)),
        ("gateway_calls_total", "outcome"): set(map(str, EndReason)),
        ("gateway_claim_seconds_count", "outcome"): words_of("pool/client.py"),
        ("gateway_rejected_total", "where"): refused,
        ("gateway_rejected_total", "reason"): refused,
        ("gateway_event_deliveries_total", "result"): words_of("outbox"),
        ("gateway_resumes_total", "cause"): calls,
        ("gateway_resumes_total", "result"): calls,
        ("haproxy_backend_active_servers", "proxy"): {line.removeprefix("backend ") for line in RULES},
    }
    asked = [
        (metric, label, value)
        for metric, labels in re.findall(r"`(\w+)\{([^}]*)\}`", README)
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', labels)
        for value in values.split("\\|")
    ]
    assert {(metric, label) for metric, label, _ in asked} == set(known)
    for metric, label, value in asked:
        assert value in known[metric, label], f'{metric}: {label} is never "{value}"'


def test_readme_alarms_when_callers_are_refused_for_want_of_ours() -> None:
    alarms = section("## What to alarm on")
    (reasons,) = re.findall(r'gateway_rejected_total\{where="voice",reason=~"([^"]*)"', alarms)
    inbound = ast.parse((ROOT / "gateway" / "webhooks" / "voice.py").read_text())
    calls = [node for node in ast.walk(inbound) if isinstance(node, ast.Call)]
    words = [ast.walk(call.args[1]) for call in calls if ast.unparse(call.func) == "node.refuse"]
    given = {word.value for found in words for word in found if isinstance(word, ast.Constant)}
    strings = {word for word in given if isinstance(word, str)}
    # A service that is not in the settings, and a node that drains, are refused on purpose.
    assert strings - set(reasons.split("\\|")) == {"unknown_service", "draining"}


def test_readme_says_what_each_alarm_is_read_from() -> None:
    alarms = section("## What to alarm on")
    assert len(set(re.findall(r"\bgateway_[a-z_]+", alarms))) >= 7
