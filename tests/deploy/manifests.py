"""The Kubernetes objects of the repository, however they are made, and the tools that judge them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.kustomize import LOADER, Resource, build

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = KUBERNETES / "helm" / "streamer"
FOLDERS = ("base", "overlays/try", "overlays/production")

# What the chart is tried with. The last one sets every switch and every list.
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "scaled": {"keda": {"enabled": True}, "monitoring": {"enabled": True}},
    "workers-only": {
        "indexer": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "disruptionBudget": {"enabled": False},
    },
    "everything": {
        "image": {"repository": "registry.example.com/streamer", "tag": "1", "pullSecrets": [{"name": "registry"}]},
        "settings": {"STREAMER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "STREAMER_PROVIDER__NAME": "openai"},
        "worker": {
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"key": "pool", "operator": "Exists"}],
            "podAnnotations": {"a": "b"},
        },
        "indexer": {
            "storage": {"className": "fast"},
            "nodeSelector": {"pool": "memory"},
            "tolerations": [{"key": "pool", "operator": "Exists"}],
            "podAnnotations": {"a": "b"},
        },
        "keda": {
            "enabled": True,
            "maxReplicas": 12,
            "authenticate": True,
            "metadata": {"tls": "enable", "sasl": "scram_sha512"},
        },
        "networkPolicy": {
            "egress": [{"ports": [{"port": 11434}]}],
            "indexerIngress": [{"ports": [{"port": "http"}]}],
        },
        "monitoring": {
            "enabled": True,
            "token": True,
            "labels": {"release": "prometheus"},
            "docs": "https://example.com/",
        },
    },
}
KUBERNETES_VERSIONS = ("1.27", "1.37")  # of the schemas: the oldest that the chart says, and the newest that there is


def tool(name: str) -> str | None:
    """A program on the path, or where `go install` puts it."""
    return shutil.which(name) or shutil.which(name, path=str(Path.home() / "go" / "bin"))


@cache
def rendered(values: str) -> tuple[Resource, ...]:
    """What helm makes of the chart with these of VALUES. Needs helm."""
    helm = tool("helm")
    if helm is None:
        raise LookupError("helm is not installed")
    command = [helm, "template", "streamer", str(CHART), "--kube-version", KUBERNETES_VERSIONS[-1], "--values", "-"]
    done = subprocess.run(
        command, input=yaml.safe_dump(VALUES[values]), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return tuple(document for document in yaml.load_all(done.stdout, LOADER) if document is not None)


def everything() -> Iterator[tuple[str, list[Resource]]]:
    """Each set of objects with its name. Helm's only where helm is installed."""
    for folder in FOLDERS:
        yield folder, build(KUBERNETES / folder)
    yield "secret.example.yaml", [*yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text())]
    if tool("helm"):
        for values in VALUES:
            yield f"helm {values}", list(rendered(values))


def name_of(resource: Resource) -> str:
    return f"{resource['kind']}/{resource['metadata']['name']}"


def definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas of custom resources by apiVersion and kind, from the modules that Go has fetched:
    go mod download github.com/kedacore/keda/v2@v2.21.0 github.com/prometheus-operator/prometheus-operator@v0.85.0"""
    modules = Path(os.environ.get("GOMODCACHE") or Path.home() / "go" / "pkg" / "mod") / "github.com"
    folders = [
        modules / "kedacore/keda/v2@v2.21.0/config/crd/bases",
        modules / "prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd",
    ]
    wanted = ("scaledobjects", "triggerauthentications", "podmonitors", "prometheusrules")
    found = {}
    for path in (path for folder in folders for name in wanted for path in folder.glob(f"*_{name}.yaml")):
        definition = yaml.load(path.read_text(), LOADER)["spec"]
        for version in definition["versions"]:
            key = f"{definition['group']}/{version['name']}", definition["names"]["kind"]
            found[key] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def _strict(schema: Any) -> Any:
    """With no properties but those that are named, where some are named and none is said to be free."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and "additionalProperties" not in made and "type" in made:
        free = made.get("x-kubernetes-preserve-unknown-fields") or "apiVersion" in made["properties"]
        if not free or "kind" in made["properties"]:
            made["additionalProperties"] = False
    return made
