"""The manifests: selectors find pods, probes ports, policies both; what a pod is given is what the program reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.pool import client
from gateway.serve.app import make_app, make_node
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from tests.deploy.reading import (
    DOCKERFILE,
    MARGIN,
    accepted,
    documents,
    filled,
    longest_call,
    named,
    of_kind,
    settings_of,
)

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
    egress = named("NetworkPolicy", "worker")["spec"]["egress"]
    blocks = [peer["ipBlock"] for entry in egress for peer in entry.get("to", []) if "ipBlock" in peer]
    assert blocks and all("169.254.0.0/16" in block["except"] for block in blocks)


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
    routes = {getattr(route, "path", "") for route in make_app(Sessions(make_node(settings)), lambda: True).routes}
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
    paths = []
    for ingress in of_kind("Ingress"):
        (host,) = ingress["spec"]["rules"]
        assert settings_host(kubernetes_settings(tmp_path)) == host["host"] == ingress["spec"]["tls"][0]["hosts"][0]
        paths += host["http"]["paths"]
    assert sorted(path["path"] for path in paths) == ["/webhooks/", "/ws"]
    for path in paths:
        assert path["backend"]["service"] == {"name": "gateway", "port": {"name": "http"}}


def nginx(name: str) -> dict[str, str]:
    """The annotations of this Ingress for ingress-nginx."""
    prefix = "nginx.ingress.kubernetes.io/"
    return {
        key.removeprefix(prefix): value
        for key, value in named("Ingress", name)["metadata"]["annotations"].items()
        if key.startswith(prefix)
    }


def test_ingress_keeps_streams_and_sends_webhooks_to_another_pod_in_time(tmp_path: Path) -> None:
    longest = longest_call(kubernetes_settings(tmp_path))
    streams, webhooks = nginx("gateway-streams"), nginx("gateway-webhooks")
    assert min(float(streams[f"proxy-{way}-timeout"]) for way in ("read", "send")) > longest
    assert set(webhooks["proxy-next-upstream"].split()) == {"error", "timeout", "non_idempotent"}
    one = float(webhooks["proxy-connect-timeout"]) + float(webhooks["proxy-read-timeout"])
    assert float(webhooks["proxy-read-timeout"]) > client.TIMEOUT
    assert one * int(webhooks["proxy-next-upstream-tries"]) < 10  # Exotel's patience, the shortest that is documented


def settings_host(settings: Settings) -> str:
    return settings.public_url.removeprefix("https://")
