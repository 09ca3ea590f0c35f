"""Runbooks and the stranger's afternoon: files, objects and names in commands exist, and every file is validated."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.kustomize import build
from tests.deploy.manifests import FOLDERS, KUBERNETES, VALUES
from tests.docs.markdown import ROOT, blocks, commands, prose

PAGES = {name: ROOT / "docs" / f"{name}.md" for name in ("operations", "runbooks")}
PRODUCTION = build(KUBERNETES / "overlays" / "production")
OBJECTS = {(r["kind"].lower(), r["metadata"]["name"]) for r in PRODUCTION}
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
# What a test or `make lint` holds to a schema, by the beginning of its path.
VALIDATED = {
    "deploy/Dockerfile",
    "deploy/kubernetes/secret.example.yaml",
    "deploy/kubernetes/helm/streamer",
    "deploy/prometheus/alerts.yml",
    "deploy/grafana/streamer.json",
    *(f"deploy/kubernetes/{folder}" for folder in FOLDERS),
}


def lines(page: str) -> list[list[str]]:
    return [words for block in blocks(PAGES[page], "sh") for words in commands(block) if words]


@pytest.mark.parametrize("page", PAGES)
def test_files_in_commands_exist_and_are_validated(page: str) -> None:
    named = {word for words in lines(page) for word in words if word.startswith("deploy/")}
    named |= set(re.findall(r"`(deploy/[\w/.-]+)`", prose(PAGES[page])))
    assert len(named) > 2
    for name in named:
        assert (ROOT / name).exists(), name
        assert name == "deploy/kubernetes" or any(name.startswith(start) for start in VALIDATED), name
    assert VALUES, "the chart is rendered with each of them"


@pytest.mark.parametrize("page", PAGES)
def test_objects_in_commands_exist(page: str) -> None:
    found = 0
    for words in lines(page):
        if words[0] != "kubectl":
            continue
        for kind, name in re.findall(r"\b(deployment|statefulset|service)/([\w-]+)", " ".join(words)):
            assert (kind, name) in OBJECTS
            found += 1
        if "scaledobject" in words:
            assert ("scaledobject", words[words.index("scaledobject") + 1]) in OBJECTS
        if "-n" in words:
            namespaces = {r["metadata"].get("namespace") for r in PRODUCTION} - {None}
            assert {words[words.index("-n") + 1]} == namespaces
        for word in words:
            for pod in re.findall(r"^([\w-]+)-0:", word):
                assert ("statefulset", pod) in OBJECTS
    assert found


@pytest.mark.parametrize("page", PAGES)
def test_services_in_commands_exist(page: str) -> None:
    for words in lines(page):
        if words[:2] == ["docker", "compose"] and words[2] in ("exec", "stop", "start"):
            assert words[3] in SERVICES
        if words[:2] == ["docker", "compose"] and words[2] == "cp":
            assert next(w.partition(":")[0] for w in words[3:] if ":" in w) in SERVICES


def test_names_of_groups_and_topics_are_those_of_the_base() -> None:
    (config,) = [r for r in build(KUBERNETES / "base") if r["kind"] == "ConfigMap"]
    group, topic = config["data"]["STREAMER_KAFKA__GROUP_ID"], config["data"]["STREAMER_TOPICS__INPUT"]
    for words in lines("runbooks"):
        if words[0] == "kafka-consumer-groups.sh":
            assert words[words.index("--group") + 1] == group
            assert "--topic" not in words or words[words.index("--topic") + 1] == topic


def test_every_runbook_is_listed() -> None:
    text = PAGES["runbooks"].read_text()
    assert re.findall(r"^\* \[(.+)\]", text, re.MULTILINE) == re.findall(r"^## (.+)$", text, re.MULTILINE)
