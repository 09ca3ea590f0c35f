"""The Grafana dashboard: its structure, and queries of metrics that exist. Another test asks them of a Prometheus."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.generated import DASHBOARD
from tests.deploy.manifests import ROOT
from tests.deploy.promql import faults

BOARD: dict[str, Any] = orjson.loads(DASHBOARD.read_bytes())
PANELS: list[dict[str, Any]] = BOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]

_POSITION = {
    "type": "object",
    "required": ["x", "y", "w", "h"],
    "additionalProperties": False,
    "properties": {
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "h": {"type": "integer", "minimum": 1},
    },
}
_SOURCE = {"const": {"type": "prometheus", "uid": "${datasource}"}}
_TARGET = {
    "type": "object",
    "required": ["refId", "datasource", "expr", "legendFormat", "range", "instant"],
    "properties": {
        "refId": {"pattern": "^[A-Z]$"},
        "datasource": _SOURCE,
        "expr": {"type": "string", "minLength": 1},
        "legendFormat": {"type": "string"},
        "range": {"type": "boolean"},
        "instant": {"type": "boolean"},
    },
}
_GRAPH = {
    "type": "object",
    "required": ["id", "type", "title", "description", "gridPos", "datasource", "targets", "fieldConfig", "options"],
    "properties": {
        "type": {"enum": ["timeseries", "stat", "state-timeline", "heatmap"]},
        "title": {"type": "string", "minLength": 1},
        "description": {"type": "string", "minLength": 1},
        "gridPos": _POSITION,
        "datasource": _SOURCE,
        "targets": {"type": "array", "minItems": 1, "items": _TARGET},
        "fieldConfig": {
            "type": "object",
            "required": ["defaults", "overrides"],
            "properties": {
                "defaults": {
                    "required": ["unit"],
                    "properties": {
                        "unit": {
                            "enum": ["short", "none", "ops", "s", "bytes", "percentunit", "currencyUSD"],
                        }
                    },
                }
            },
        },
    },
}


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_panels_are_what_grafana_reads(panel: dict[str, Any]) -> None:
    errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(_GRAPH).iter_errors(panel)]
    assert not errors
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_queries_are_of_metrics_that_exist(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert faults(target["expr"]) == []
        assert "$instance" in target["expr"], "the choice at the top would not matter"
        for window in ("[1m]", "[5m]"):
            assert window not in target["expr"], "a fixed window is wrong at another zoom or scrape interval"


def test_panels_have_names_and_places_of_their_own() -> None:
    assert max(Counter(panel["id"] for panel in PANELS).values()) == 1
    assert max(Counter(panel["title"] for panel in PANELS).values()) == 1
    for panel in PANELS:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or beside


def test_the_board_can_be_provisioned_and_imported() -> None:
    assert BOARD["uid"] == "streamer"
    assert BOARD["schemaVersion"] >= 36
    assert "__inputs" not in BOARD, "provisioning does not fill them in"
    source, instance = BOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (instance["name"], instance["type"], instance["allValue"]) == ("instance", "query", ".*")
    assert instance["query"]["query"] == instance["definition"]
    assert faults('up{job="streamer"}') == []


def test_grafana_finds_it_where_compose_mounts_it() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    (provider,) = yaml.safe_load((folder / "dashboards" / "streamer.yml").read_text())["providers"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts["./deploy/grafana/streamer.json"] == home
    assert home.startswith(provider["options"]["path"])
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
