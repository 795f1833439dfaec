"""HAProxy's configuration as text, the secrets of all ways to deploy, and the document.

HAProxy with real gateways behind it is in test_haproxy.py.
"""

from __future__ import annotations

import re
import shlex

import yaml

from gateway.app import make_app, make_node
from gateway.metrics import Metrics
from gateway.ops import make_ops_app
from gateway.settings import ServiceSettings, Settings
from tests.deploy.reading import (
    COMPOSE,
    FILLED,
    MANIFESTS,
    README,
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


def test_readme_names_metrics_files_and_routes_that_exist() -> None:
    exposed = {family.name for family in Metrics().collect()}
    for name in set(re.findall(r"\bgateway_[a-z_]+", README)):
        base = re.sub(r"_(total|bucket|count|sum)$", "", name)
        assert name in exposed or base in exposed, f"{name} is no metric"
    for target in re.findall(r"\]\(([^)#]+)", README):
        if "://" not in target:
            assert (DEPLOY / target).exists(), target
    for name in re.findall(r"`([\w@.-]+\.(?:yaml|yml|service|cfg|toml|example))`", README):
        assert list(DEPLOY.rglob(name)), name
    node = make_node(settings_of(FILLED | {"GATEWAY_SERVICES": '[{"host": "a.b"}]'}))
    apps = (make_app(node, bool), make_ops_app(node, bool))
    routes = {getattr(route, "path", "") for app in apps for route in app.routes}
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
