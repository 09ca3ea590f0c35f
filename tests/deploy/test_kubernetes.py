"""What the Kubernetes objects promise: pods that are closed, probes that mean the right thing, settings that load, and
stops that lose no work. `make lint` holds them to the schemas of Kubernetes as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from streamer.app.kafka import topic_specs
from streamer.cli import app
from streamer.settings import Settings, load_settings
from tests.deploy.kustomize import Resource, build
from tests.deploy.manifests import FOLDERS, KUBERNETES, ROOT, VALUES, definitions, name_of, rendered, tool

SECRET = yaml.safe_load((KUBERNETES / "secret.example.yaml").read_text())["stringData"]
SOURCES = [*FOLDERS, *(f"helm {values}" for values in VALUES)]


@cache
def built(folder: str) -> list[Resource]:
    return build(KUBERNETES / folder)


@cache
def custom_definitions() -> dict[tuple[str, str], Draft202012Validator]:
    return {name: Draft202012Validator(schema) for name, schema in definitions().items()}


def resources_of(source: str) -> list[Resource]:
    if source in FOLDERS:
        return built(source)
    if tool("helm") is None:
        pytest.skip("helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest brings it")
    return list(rendered(source.removeprefix("helm ")))


def one(resources: list[Resource], kind: str, name: str = "") -> Resource:
    (found,) = [r for r in resources if r["kind"] == kind and r["metadata"]["name"].endswith(name)]
    return found


def pods(resources: list[Resource]) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Each object that makes pods, and their spec."""
    for resource in resources:
        if "template" in resource.get("spec", {}):
            yield resource, resource["spec"]["template"]["spec"]


def ours(resources: list[Resource]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Role, spec of its pod and its container, for each of streamer's own."""
    for _, pod in pods(resources):
        (container,) = pod["containers"]
        if container["name"] != "kafka":
            yield container["name"], pod, container


def settings_of(resources: list[Resource], container: dict[str, Any]) -> Settings:
    """What the process makes of its environment, with the Secret of the example."""
    names = [source["configMapRef"]["name"] for source in container["envFrom"]]
    environ = {
        k: v
        for r in resources
        if r["kind"] == "ConfigMap" and r["metadata"]["name"] in names
        for k, v in r["data"].items()
    }
    for entry in container.get("env", []):
        field = entry.get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
        section, _, name = (field or "").partition(".")
        environ[entry["name"]] = entry["value"] if field is None else str(container["resources"][section][name])
    assert environ.pop("STREAMER_SECRETS_DIR", "/run/secrets/streamer") == "/run/secrets/streamer"
    return load_settings(None, environ | SECRET)


@pytest.mark.parametrize("source", SOURCES)
def test_pods_have_no_rights_that_they_do_not_need(source: str) -> None:
    for resource, pod in pods(resources_of(source)):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "STREAMER_HTTP_PORT of a Service would be taken for a setting"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context.get("readOnlyRootFilesystem") or container["name"] == "kafka", name_of(resource)
            assert "memory" in container["resources"]["limits"]
            assert "cpu" in container["resources"]["requests"]
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            claims = resource["spec"].get("volumeClaimTemplates", [])
            declared = {v["name"] for v in pod.get("volumes", [])} | {claim["metadata"]["name"] for claim in claims}
            assert mounted == declared
            assert all("sizeLimit" in v["emptyDir"] for v in pod.get("volumes", []) if "emptyDir" in v)


@pytest.mark.parametrize("source", SOURCES)
def test_processes_get_settings_that_they_accept(source: str) -> None:
    resources = resources_of(source)
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    user = int(re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE)[-1])
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    for role, pod, container in ours(resources):
        settings = settings_of(resources, container)
        assert container["args"][0] in commands
        assert pod["securityContext"]["runAsUser"] == user
        if role == "topics":
            continue
        port = {"worker": settings.http.worker_port, "indexer": settings.http.port}[role]
        assert [p["containerPort"] for p in container["ports"]] == [port]
        assert settings.http.host == "0.0.0.0", "probes come from the node"
        mount = next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "data")
        kept = [settings.cache.path] + ([settings.index.snapshot_path] if role == "indexer" else [])
        assert all(path is not None and path.is_relative_to(mount) for path in kept)
        assert pod["securityContext"]["fsGroup"] == user, "who else could write to the volume"
        assert settings.provider.threads == int(container["resources"]["limits"]["cpu"])


@pytest.mark.parametrize("source", SOURCES)
def test_a_stop_is_given_the_time_of_a_drain(source: str) -> None:
    resources = resources_of(source)
    for role, pod, container in ours(resources):
        if role != "topics":
            drain = settings_of(resources, container).delivery.drain_timeout_ms / 1000
            assert pod["terminationGracePeriodSeconds"] >= drain + 15


@pytest.mark.parametrize("source", SOURCES)
def test_an_outage_ends_no_pod(source: str) -> None:
    """/readyz is 503 while the provider is down: a liveness or startup probe that asks it would restart the worker."""
    for role, _, container in ours(resources_of(source)):
        if role == "topics":
            continue
        for probe, path in {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 120, (
            "a model is loaded, and brokers are looked for"
        )


@pytest.mark.parametrize("source", SOURCES)
def test_one_indexer_and_never_two(source: str) -> None:
    indexers = [r for r in resources_of(source) if r["metadata"]["name"].endswith("-indexer") and "spec" in r]
    for resource in (r for r in indexers if "replicas" in r["spec"]):
        assert (resource["kind"], resource["spec"]["replicas"]) == ("StatefulSet", 1)
        assert resource["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize("source", SOURCES)
def test_nodes_drain_one_worker_at_a_time_in_an_outage_too(source: str) -> None:
    for budget in (r for r in resources_of(source) if r["kind"] == "PodDisruptionBudget"):
        assert budget["metadata"]["name"].endswith("-worker"), "a budget of the one indexer would block its node"
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("source", SOURCES)
def test_selectors_find_their_pods(source: str) -> None:
    resources = resources_of(source)
    labels = {r["metadata"]["name"]: r["spec"]["template"]["metadata"]["labels"] for r, _ in pods(resources)}
    for resource in resources:
        spec = resource.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
        found = {name for name, own in labels.items() if wanted.items() <= own.items()}
        assert found, name_of(resource)
        if resource["kind"] in ("Service", "Deployment", "StatefulSet", "PodDisruptionBudget"):
            assert found == {resource["metadata"]["name"]}


@pytest.mark.parametrize("source", SOURCES)
def test_workers_grow_with_the_lag_and_never_beyond_the_partitions(source: str) -> None:
    resources = resources_of(source)
    for scaled in (r for r in resources if r["kind"] == "ScaledObject"):
        deployment = one(resources, "Deployment", "-worker")
        assert scaled["spec"]["scaleTargetRef"] == {"name": deployment["metadata"]["name"]}
        assert "replicas" not in deployment["spec"], "an apply would put the number back"
        (trigger,) = scaled["spec"]["triggers"]
        metadata = trigger["metadata"]
        assert trigger["type"] == "kafka"
        assert all(isinstance(value, str) for value in metadata.values())
        assert (metadata["offsetResetPolicy"], metadata["allowIdleConsumers"]) == ("earliest", "false")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        environ = {k for r in resources if r["kind"] == "ConfigMap" for k in r.get("data", {})}
        named = {value for key, value in metadata.items() if key.endswith("FromEnv")}
        assert named == {"STREAMER_KAFKA__BOOTSTRAP_SERVERS", "STREAMER_KAFKA__GROUP_ID", "STREAMER_TOPICS__INPUT"}
        assert named <= environ
        settings = settings_of(resources, container)
        if source in FOLDERS:
            assert scaled["spec"]["maxReplicaCount"] == topic_specs(settings)[0].partitions
        is_secured = settings.kafka.security_protocol == "SASL_SSL"
        assert ("sasl" in metadata, "authenticationRef" in trigger) == (is_secured, is_secured) or "helm" in source


@pytest.mark.parametrize("source", SOURCES)
def test_references_lead_somewhere(source: str) -> None:
    """To a ConfigMap, a Service or an authentication of the same build, or to a key of the Secret."""
    resources = resources_of(source)
    known = {(r["kind"], r["metadata"]["name"]) for r in resources}
    for role, pod, container in ours(resources):
        for entry in container["envFrom"]:
            assert ("ConfigMap", entry["configMapRef"]["name"]) in known
        if role != "topics":
            assert ("ServiceAccount", pod["serviceAccountName"]) in known
            (volume,) = [v for v in pod["volumes"] if v["name"] == "secrets"]
            assert volume["secret"]["secretName"] == "streamer"
            assert volume["secret"]["optional"] is True
            assert volume["secret"]["defaultMode"] == 0o440, "not for everybody"
    for resource in resources:
        spec = resource.get("spec", {})
        if "serviceName" in spec:
            assert ("Service", spec["serviceName"]) in known
        for trigger in spec.get("triggers", []):
            if "authenticationRef" in trigger:
                assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in known
        secrets = [*spec.get("secretTargetRef", [])]
        secrets += [
            e["authorization"]["credentials"] for e in spec.get("podMetricsEndpoints", []) if "authorization" in e
        ]
        assert all(secret["name"] == "streamer" and secret["key"] in SECRET for secret in secrets)


@pytest.mark.parametrize("source", SOURCES)
def test_no_secret_stands_in_a_config_map(source: str) -> None:
    for resource in (r for r in resources_of(source) if r["kind"] in ("ConfigMap", "Secret")):
        assert resource["kind"] == "ConfigMap"
        assert not [name for name in resource["data"] if re.search("TOKEN|PASSWORD|API_KEY|HEADERS", name)]


@pytest.mark.parametrize("source", SOURCES)
def test_who_is_let_in_and_what_is_let_out(source: str) -> None:
    resources = resources_of(source)
    policies = [r["spec"] for r in resources if r["kind"] == "NetworkPolicy"]
    if not policies:
        assert source == "helm workers-only"
        return
    for policy in (p for p in policies if p["policyTypes"] == ["Ingress"]):
        assert all(rule.get("from") for rule in policy["ingress"]) or source == "helm everything", "open to everybody"
    (egress,) = [p["egress"] for p in policies if p["policyTypes"] == ["Egress"]]
    for rule in egress:
        for block in (to["ipBlock"] for to in rule.get("to", []) if "podSelector" not in to):
            assert block["except"], "the metadata service of a cloud"
    open_ports = {port["port"] for rule in egress for port in rule["ports"]}
    for _, _, container in ours(resources):
        servers = settings_of(resources, container).kafka.bootstrap_servers.split(",")
        assert {int(server.rpartition(":")[2]) for server in servers} <= open_ports


def admits(peers: list[Resource], labels: Resource) -> bool:
    selectors = [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
    return any(selector.items() <= labels.items() for selector in selectors)


@pytest.mark.parametrize("source", SOURCES)
def test_the_indexer_finds_and_reaches_every_worker(source: str) -> None:
    """By a name that has the addresses of all of them, those that are not ready among them."""
    resources = resources_of(source)
    indexers = [container for role, _, container in ours(resources) if role == "indexer"]
    if not indexers:
        assert source == "helm workers-only"
        return
    addresses = settings_of(resources, indexers[0]).http.workers
    assert addresses is not None
    (address,) = addresses
    name, _, port = address.removeprefix("http://").partition(":")
    service = next(r for r in resources if r["kind"] == "Service" and r["metadata"]["name"] == name)["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    deployment = one(resources, "Deployment", "worker")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    ports = {entry["name"]: entry["containerPort"] for entry in template["spec"]["containers"][0]["ports"]}
    # A client of a headless Service connects to the pod's own port.
    assert [entry["port"] for entry in service["ports"]] == [int(port)] == [ports["http"]]
    assert settings_of(resources, template["spec"]["containers"][0]).http.worker_port == int(port)
    policies = [r["spec"] for r in resources if r["kind"] == "NetworkPolicy"]
    indexer = one(resources, "StatefulSet", "indexer")["spec"]["template"]["metadata"]["labels"]
    for policy in policies:
        selected = policy["podSelector"]["matchLabels"].items()
        if policy["policyTypes"] == ["Ingress"] and selected <= labels.items():
            assert admits([peer for rule in policy["ingress"] for peer in rule["from"]], indexer)
        if policy["policyTypes"] == ["Egress"] and selected <= indexer.items():
            open_ = [rule for rule in policy["egress"] if {"port": int(port)} in rule["ports"]]
            assert admits([peer for rule in open_ for peer in rule["to"]], labels)


@pytest.mark.parametrize("source", SOURCES)
def test_custom_resources_fit_their_definitions(source: str) -> None:
    known = custom_definitions()
    if not known:
        pytest.skip("Go's module cache has no definitions; see `definitions` for the command that brings them")
    for resource in resources_of(source):
        validator = known.get((resource["apiVersion"], resource["kind"]))
        if validator:
            errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(resource)]
            assert not errors, name_of(resource)


def test_the_overlays_are_of_the_versions_of_the_repository() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    image = re.search(r"apache/kafka:[\d.]+", text)
    assert image is not None
    assert image[0] in (KUBERNETES / "overlays" / "try" / "kafka.yaml").read_text()
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    chart = yaml.safe_load((KUBERNETES / "helm" / "streamer" / "Chart.yaml").read_text())
    production = yaml.safe_load((KUBERNETES / "overlays" / "production" / "kustomization.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == production["images"][0]["newTag"] == version[1]
