"""What users start without reading it: the compose file, checked without an engine."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator

from streamer.cli import app
from streamer.settings import load_settings
from tests.deploy.manifests import ROOT
from tests.support.brokers import IMAGE

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "streamer"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def environment_of(service: str) -> dict[str, str]:
    """As compose passes it from a shell that sets nothing: `${NAME:-default}` is the default, no value means absent."""
    values = SERVICES[service].get("environment", {})
    environ = {k: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(v)) for k, v in values.items() if v is not None}
    assert environ.pop("STREAMER_SECRETS_DIR") == "/run/secrets"
    return environ


def test_compose_file_fits_the_published_schema() -> None:
    found = importlib.util.find_spec("check_jsonschema")
    if found is None or found.origin is None:
        pytest.skip("check-jsonschema, which carries the schema of compose files, is not installed")
    schema = Path(found.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    errors = list(Draft202012Validator(orjson.loads(schema.read_bytes())).iter_errors(COMPOSE))
    assert not errors, [f"{error.json_path}: {error.message}" for error in errors]


@pytest.mark.parametrize("service", OURS)
def test_services_have_settings_that_streamer_accepts(service: str) -> None:
    environment = environment_of(service)
    settings = load_settings(environ=environment)
    assert settings.http.host == "0.0.0.0"
    assert settings.provider.name == "onnx", "the one that needs no key"
    listeners = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"//{settings.kafka.bootstrap_servers}," in listeners
    (command, *_) = SERVICES[service]["command"]
    assert command in {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    ports = {"run": settings.http.worker_port, "index": settings.http.port}
    default = re.search(r"HEALTH_PORT=(\d+)", DOCKERFILE)
    assert default is not None
    if command in ports:
        assert int(environment.get("HEALTH_PORT", default[1])) == ports[command]
        for path in (settings.cache.path, settings.index.snapshot_path):
            assert path is not None
            assert path.is_relative_to("/data"), "what is not on the volume is lost with the container"
        drain = settings.delivery.drain_timeout_ms / 1000
        assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > drain + 10
        assert environment["HEALTH_PATH"] == "/readyz", (
            "`docker compose ps` shows it; Docker restarts nothing for its health"
        )
        assert settings.provider.threads == int(limits_of(service)["cpus"])
    assert all("healthcheck" not in SERVICES[name] for name in OURS if name != "topics"), "the image's is used"


def limits_of(service: str) -> dict[str, str]:
    limits: dict[str, str] = SERVICES[service]["deploy"]["resources"]["limits"]
    return limits


@pytest.mark.parametrize("service", OURS)
def test_settings_handed_on_from_the_shell_exist(service: str) -> None:
    names = [name for name, value in SERVICES[service]["environment"].items() if value is None]
    assert names
    values = {
        "STREAMER_PROVIDER__DIMENSIONS": "384",
        "STREAMER_PROVIDER__NAME": "onnx",
        "STREAMER_CACHE__URL": "redis://redis:6379/0",
    }
    load_settings(environ={name: values.get(name, "x") for name in names})


def test_services_start_in_an_order_that_can_be_met() -> None:
    for name, service in SERVICES.items():
        for dependency, how in service.get("depends_on", {}).items():
            other = SERVICES[dependency]
            if how["condition"] == "service_healthy":
                assert "test" in other["healthcheck"], f"{name} waits for {dependency}, which never gets healthy"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert other["restart"].startswith("on-failure"), "one that is always restarted never completes"


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_named_volumes_are_declared() -> None:
    sources = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / source).exists() for source in sources if source.startswith("."))


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_takes_the_whole_machine_or_fills_its_disk(service: str) -> None:
    assert float(limits_of(service)["cpus"]) > 0
    assert re.fullmatch(r"[\d.]+[MG]", limits_of(service)["memory"])
    logging = SERVICES[service]["logging"]
    assert logging["driver"] == "json-file"
    assert logging["options"] == {"max-size": "10m", "max-file": "5"}
    image = SERVICES[service]["image"]
    assert image == "streamer" or re.search(r":v?\d+\.\d+", image), "a version, or tomorrow another one is pulled"


def test_services_under_a_profile_are_needed_by_no_other() -> None:
    optional = {name for name, service in SERVICES.items() if "profiles" in service}
    assert {"ollama", "redis"} <= optional
    for name, service in SERVICES.items():
        assert name in optional or not optional & set(service.get("depends_on", {}))


def test_secrets_are_files_called_like_their_variables() -> None:
    mounted = {}
    for name in OURS:
        for secret in SERVICES[name]["secrets"]:
            mounted[secret["source"]] = secret["target"]
        assert not {k for k in SERVICES[name]["environment"] if re.search("TOKEN|PASSWORD|API_KEY", k)}
    assert mounted.keys() == COMPOSE["secrets"].keys()
    load_settings(environ=dict.fromkeys(mounted.values(), "secret"))
    for secret in COMPOSE["secrets"].values():
        default = re.fullmatch(r"\$\{\w+:-(.+)\}", secret["file"])
        assert default is not None
        assert (ROOT / default[1]).read_text() == "", "an empty file is no secret"


def test_two_workers_and_one_indexer() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert "replicas" not in SERVICES["indexer"]["deploy"]


def test_one_version_of_kafka_everywhere() -> None:
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)</version>", pom)
    assert version is not None
    assert SERVICES["kafka"]["image"] == IMAGE == f"apache/kafka:{version[1]}"
