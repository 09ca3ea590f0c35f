"""What `kustomize build` makes of our folders, for machines that have no kustomize: the few features that they use.

Anything else is refused, so that no file says what this does not do. Where kustomize is installed, a test compares the
two.
Names of generated ConfigMaps get no hash.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where PyYAML was built with it

_KEYS = {
    *("apiVersion", "kind", "namespace", "resources", "components"),
    *("images", "patches", "configMapGenerator"),
}
_CLUSTER_WIDE = {"Namespace"}


def documents(path: Path) -> list[Resource]:
    return [document for document in yaml.load_all(path.read_text(), LOADER) if document is not None]


def build(folder: Path) -> list[Resource]:
    """All resources of an overlay. Raises ValueError for what is not supported or fits nothing."""
    return _build(folder, [])


def _build(folder: Path, so_far: list[Resource]) -> list[Resource]:
    """`so_far`: what a component changes; a kustomization begins with nothing."""
    plan = yaml.load((folder / "kustomization.yaml").read_text(), LOADER)
    if unknown := plan.keys() - _KEYS:
        raise ValueError(f"{folder}: not supported: {', '.join(sorted(unknown))}")
    made = list(so_far)
    for name in plan.get("resources", []):
        path = folder / name
        made += build(path) if path.is_dir() else documents(path)
    for entry in plan.get("configMapGenerator", []):
        _generate(folder, entry, made)
    for name in plan.get("components", []):
        made = _build(folder / name, made)
    for patch in plan.get("patches", []):
        _patch(folder, patch, made)
    for image in plan.get("images", []):
        _rename_image(image, made)
    if namespace := plan.get("namespace"):
        for resource in made:
            if resource["kind"] not in _CLUSTER_WIDE:
                resource["metadata"]["namespace"] = namespace
    return made


def _generate(folder: Path, entry: dict[str, Any], made: list[Resource]) -> None:
    data: dict[str, str] = {}
    for name in entry.get("envs", []):
        lines = [line for line in (folder / name).read_text().splitlines() if line and not line.startswith("#")]
        data |= dict(line.split("=", 1) for line in lines)
    data |= {name: (folder / name).read_text() for name in entry.get("files", [])}
    if entry.get("behavior", "create") == "merge":
        (resource,) = [r for r in made if r["kind"] == "ConfigMap" and r["metadata"]["name"] == entry["name"]]
        resource["data"] |= data
        return
    metadata: dict[str, Any] = {"name": entry["name"]}
    if labels := entry.get("options", {}).get("labels"):
        metadata["labels"] = dict(labels)
    made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _patch(folder: Path, patch: dict[str, Any], made: list[Resource]) -> None:
    target = patch["target"]
    found = [r for r in made if r["kind"] == target["kind"] and r["metadata"]["name"] == target["name"]]
    if not found:
        raise ValueError(f"{folder}: nothing is called {target}")
    for resource in found:
        for operation in yaml.safe_load(patch["patch"]):
            _apply(resource, **operation)


def _apply(resource: Resource, op: str, path: str, value: Any = None) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *parents, last = path.removeprefix("/").split("/")
    holder: Any = resource
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    key: Any = int(last) if isinstance(holder, list) else last
    if op == "remove":
        del holder[key]
    elif op == "replace":
        if isinstance(holder, dict) and key not in holder:
            raise ValueError(f"{path}: nothing to replace")
        holder[key] = copy.deepcopy(value)
    elif op == "add" and isinstance(holder, dict):
        holder[key] = copy.deepcopy(value)
    else:
        raise ValueError(f"{op} {path}: not supported")


def _rename_image(image: dict[str, str], made: list[Resource]) -> None:
    for resource in made:
        pod = resource.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            if container["image"].split(":")[0] == image["name"]:
                name = image.get("newName", image["name"])
                container["image"] = f"{name}:{image['newTag']}" if "newTag" in image else name
