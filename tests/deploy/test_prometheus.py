"""Alerts: of metrics that exist, explained where they link to, tried by promtool, copied to where they are needed."""

from __future__ import annotations

import re
import subprocess
from typing import Any, get_args

import pytest
import yaml

from streamer.core.verdicts import VerdictKind
from streamer.telemetry.waiting import Lack, Reason
from tests.deploy.generated import ALERTS, copies
from tests.deploy.manifests import ROOT, tool
from tests.deploy.promql import faults, selectors
from tests.docs.markdown import anchors

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
TESTS = ALERTS.with_name("alerts.test.yml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_are_of_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []


def test_reasons_that_alerts_name_exist() -> None:
    known = {
        "reason": {*get_args(Reason), *get_args(Lack)},
        "verdict": set(get_args(VerdictKind)),
        "job": {"streamer"},
    }
    named = [(label, value) for rule in RULES for s in selectors(rule["expr"]) for label, value in s.matchers.items()]
    assert len(named) > 10
    for label, expression in named:
        assert any(re.fullmatch(expression, value) for value in known[label]), expression


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)


def test_every_explained_alert_exists() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert re.findall(r"^### (Streamer\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_every_alert_fires_in_a_test_of_promtool_and_is_silent_in_another() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = [
        set(re.findall(r'alertname="(\w+)"', str(check["exp_samples"])))
        for t in tests
        for check in t["promql_expr_test"]
    ]
    assert set().union(*fired) == {rule["alert"] for rule in RULES}
    assert set() in fired, "a healthy installation"
    for rule in RULES:
        series = {s.metric for s in selectors(rule["expr"])}
        quiet = [t for t, names in zip(tests, fired, strict=True) if rule["alert"] not in names]
        given = {re.split("{", s["series"])[0] for t in quiet for s in t["input_series"]}
        assert series & given, f"{rule['alert']}: no test in which its metric is there and it is silent"


@pytest.mark.slow
def test_promtool_finds_nothing() -> None:
    promtool = tool("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package prometheus brings it")
    for arguments in (
        ["check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)],
        ["check", "config", "--syntax-only", str(ALERTS.with_name("prometheus.yml"))],
        ["test", "rules", str(TESTS)],
    ):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_copies_are_up_to_date() -> None:
    for path, text in copies().items():
        assert path.read_text() == text, f"{path}: run python -m tests.deploy --write"
        if path.suffix != ".json":
            made = yaml.safe_load(text)
            assert made.get("spec", made) == yaml.safe_load(ALERTS.read_text())


def test_prometheus_scrapes_what_compose_starts() -> None:
    config = yaml.safe_load(ALERTS.with_name("prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "streamer"]
    ports = {found["names"][0]: found["port"] for found in job["dns_sd_configs"]}
    assert ports == {"worker": 8081, "indexer": 8080}
    assert ports.keys() <= services.keys()
    assert job["authorization"]["credentials_file"] in [f"/run/secrets/{s}" for s in services["prometheus"]["secrets"]]
    mounted = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{name}" in mounted for name in ["prometheus.yml", *config["rule_files"]])


def test_pods_are_scraped_as_the_job_that_alerts_name() -> None:
    monitor = yaml.safe_load((ROOT / "deploy/kubernetes/components/monitoring/podmonitor.yaml").read_text())
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
