"""`python -m tests.deploy`: checks every Kubernetes object of the repository against the schemas of Kubernetes.
With `--write` it makes the copies that other tools need of the alerts and the dashboard."""

from __future__ import annotations

import sys

from tests.deploy.generated import copies
from tests.deploy.manifests import KUBERNETES_VERSIONS, everything, name_of, tool


def check() -> int:
    """The number of faults. Needs the dependency group `deploy`."""
    import kubernetes_validate

    faults, checked, custom = 0, 0, set()
    for source, resources in everything():
        for resource in resources:
            for version in KUBERNETES_VERSIONS:
                try:
                    kubernetes_validate.validate(resource, version, strict=True)
                except kubernetes_validate.SchemaNotFoundError:
                    custom.add(resource["kind"])
                except kubernetes_validate.ValidationError as exc:
                    where = ".".join(str(part) for part in exc.path)
                    print(f"{source}: {name_of(resource)}: {where}: {exc.message} (Kubernetes {version})")
                    faults += 1
                else:
                    checked += 1
    print(f"{checked} checks of objects, {faults} faults; not of Kubernetes itself: {', '.join(sorted(custom))}")
    if not tool("helm"):
        print("the Helm chart is not checked: helm is not installed")
    return faults


def main() -> int:
    if sys.argv[1:] != ["--write"]:
        return 1 if check() else 0
    for path, text in copies().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
