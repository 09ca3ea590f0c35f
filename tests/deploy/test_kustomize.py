"""Our own reading of the kustomizations, held against kustomize, and the chart against the base."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.kustomize import Resource, build
from tests.deploy.manifests import FOLDERS, KUBERNETES, name_of, rendered, tool


def by_name(resources: list[Resource]) -> dict[str, Resource]:
    return {name_of(resource): resource for resource in resources}


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_builds_the_same(folder: str) -> None:
    kustomize = tool("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed; go install sigs.k8s.io/kustomize/kustomize/v5@latest brings it")
    done = subprocess.run([kustomize, "build", KUBERNETES / folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # The hash that it puts behind the name of a generated ConfigMap.
    plain = re.sub(r"\bname: streamer-[0-9a-z]{10}$", "name: streamer", done.stdout, flags=re.MULTILINE)
    assert plain != done.stdout
    assert by_name(list(yaml.safe_load_all(plain))) == by_name(build(KUBERNETES / folder))


def test_what_the_reading_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: a-")
    with pytest.raises(ValueError, match="not supported: namePrefix"):
        build(tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [a.yaml]\npatches: [{target: {kind: A, name: b}, patch: '[{op: remove, path: /x}]'}]"
    )
    (tmp_path / "a.yaml").write_text("{kind: A, metadata: {name: a}}")
    with pytest.raises(ValueError, match="nothing is called"):
        build(tmp_path)


def without_marks_of_helm(resource: Any) -> Any:
    """Without what only helm adds: who made it, and which release it is of."""
    if isinstance(resource, list):
        return [without_marks_of_helm(part) for part in resource]
    if not isinstance(resource, dict):
        return resource
    ignored = (
        *("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"),
        *("checksum/settings", "imagePullPolicy"),
    )
    made = {key: without_marks_of_helm(value) for key, value in resource.items() if key not in ignored}
    for key in ("volumes", "env"):
        if isinstance(made.get(key), list):
            made[key] = sorted(made[key], key=lambda entry: str(entry["name"]))
    return {key: value for key, value in made.items() if (key, value) not in (("labels", {}), ("annotations", {}))}


def test_the_chart_makes_what_the_base_makes() -> None:
    if tool("helm") is None:
        pytest.skip("helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest brings it")
    base = build(KUBERNETES / "base")
    for resource in base:
        for container in resource.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            container["image"] += ":0.1.0"
    config = {"app.kubernetes.io/name": "streamer"}
    by_name(base)["ConfigMap/streamer"]["metadata"]["labels"] = config  # kustomize gives it none
    assert without_marks_of_helm(by_name(list(rendered("defaults")))) == without_marks_of_helm(by_name(base))


def test_the_charts_components_are_those_of_kustomize() -> None:
    if tool("helm") is None:
        pytest.skip("helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest brings it")
    chart = by_name(list(rendered("scaled")))
    for path in ("keda/scaledobject.yaml", "monitoring/podmonitor.yaml", "monitoring/rules.yaml"):
        ours = yaml.safe_load((KUBERNETES / "components" / path).read_text())
        assert without_marks_of_helm(chart[name_of(ours)]) == without_marks_of_helm(ours)


def test_the_chart_refuses_what_it_does_not_know() -> None:
    helm = tool("helm")
    if helm is None:
        pytest.skip("helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest brings it")
    chart = KUBERNETES / "helm" / "streamer"
    for wrong in ("worker.replica=2", "settings.STREAMER_HTTP__TOKEN=x", "settings.KAFKA=x", "keda.maxReplicas=0"):
        done = subprocess.run(
            [helm, "template", "x", chart, "--kube-version", "1.37", "--set-string", wrong],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode != 0, wrong
        assert "don't meet the specifications of the schema" in done.stderr
