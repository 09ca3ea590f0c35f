"""The demo's processes: their settings, their ports, and what is said when one of them dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from streamer.adapters.broker import EmbeddedBroker
from streamer.adapters.kafka.topics import check_topics
from streamer.app.connection import connection_of
from streamer.app.kafka import topic_specs
from streamer.commands import demo_services as demo_services_module
from streamer.commands.demo import PACKAGES
from streamer.commands.demo import demo as run_demo
from streamer.commands.demo_services import (
    HOST,
    Service,
    demo_services,
    demo_settings,
    environment_of,
    listening,
    running,
    started,
    until_ready,
)
from streamer.commands.running import report
from streamer.errors import MissingExtra
from streamer.settings import Settings, load_settings
from tests.support.stages import free_port

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.anyio
@pytest.mark.parametrize("module", PACKAGES)
async def test_a_missing_package_is_one_clear_line(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{PACKAGES[module]} is not installed.*'embedding-streamer\[demo\]'"):
        await run_demo(once=True)


def test_the_processes_get_the_demo_s_settings_and_nobody_else_s(tmp_path: Path) -> None:
    indexer, worker = Service("indexer", "index", 1111), Service("worker", "run", 2222)
    values = {**demo_settings("127.0.0.1:9", tmp_path), **listening(indexer, worker)}
    mine = {
        "STREAMER_KAFKA__GROUP_ID": "production",
        "streamer_topics__input": "real",
        "PATH": "/bin",
        "PYTHONPATH": "/x",
    }
    environment = environment_of(values, mine)
    assert environment["PATH"] == "/bin"
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/x"]
    settings = load_settings(None, environment)
    assert settings.kafka.group_id == "streamer"
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9"
    assert not settings.kafka.idempotent
    assert settings.topics.input == "texts"
    assert settings.input.on_too_long == "reject"
    assert (settings.http.port, settings.http.worker_port) == (1111, 2222)
    assert settings.cache.path == tmp_path / "cache.sqlite"


def test_services_have_ports_of_their_own() -> None:
    indexer, worker = demo_services()
    assert indexer.port != worker.port


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_service_that_dies_says_why_in_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service("worker", "run", 1)
    environment = environment_of({"kafka": {"sesion_timeout_ms": 1}}, os.environ)
    with pytest.raises(ExceptionGroup) as raised:
        async with running(service, environment, tmp_path) as child:
            await until_ready(service, child)
    assert report(raised.value, debug=False) == 1
    said = capsys.readouterr().err
    assert "the worker ended unexpectedly (exit code 2)" in said
    assert "unknown key kafka.sesion_timeout_ms" in said


@pytest.fixture
def ready_server() -> Iterator[int]:
    """The port of somebody else, who says to be ready."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write({"/readyz": b'{"ready": true}'}.get(self.path, b"<html>"))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Ready) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.own_broker
@pytest.mark.anyio
async def test_ports_that_others_take_meanwhile_are_changed_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready_server: int
) -> None:
    taken = iter([ready_server])  # it was free when it was looked at
    monkeypatch.setattr(demo_services_module, "_free_port", lambda preferred: next(taken, None) or free_port())
    async with EmbeddedBroker() as broker:
        values = demo_settings(broker.bootstrap_servers, tmp_path)
        settings = Settings.model_validate(values)
        await check_topics(connection_of(settings), topic_specs(settings), create=True)
        services, indexer, worker = await started(values, tmp_path)
        async with services, httpx.AsyncClient() as client:
            assert ready_server not in (indexer.port, worker.port)
            roles = [(await client.get(f"{service.url}/v1/status")).json()["role"] for service in (indexer, worker)]
            assert roles == ["indexer", "worker"]
