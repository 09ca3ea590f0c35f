"""Copies that Kubernetes and Helm need of alerts and dashboard: `python -m tests.deploy --write` writes them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.deploy.manifests import CHART, KUBERNETES, ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "streamer.json"

_RULE = """\
# Made from deploy/prometheus/alerts.yml by: python -m tests.deploy --write
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: streamer
  labels:
    app.kubernetes.io/name: streamer
spec:
"""


def copies() -> dict[Path, str]:
    """What each file should hold."""
    alerts = ALERTS.read_text()
    rules = alerts[alerts.index("groups:") :]
    return {
        KUBERNETES / "components" / "monitoring" / "rules.yaml": _RULE + textwrap.indent(rules, "  "),
        CHART / "files" / "alerts.yml": rules,
        CHART / "files" / "streamer.json": DASHBOARD.read_text(),
    }
