"""Several workers under one supervisor: started, asked, started again and stopped. Their place is taken by a small
program that does as it is told."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest

from streamer.app import workers as workers_module
from streamer.app.workers import Member, Workers, report_to
from streamer.embedding.backoff import BackoffPolicy
from streamer.http.sums import create_sums_app
from streamer.settings import Settings, load_settings

pytestmark = pytest.mark.anyio

# Serves what it is, and ends at SIGTERM. Its arguments: number, handle, a file that says what to do, a token.
PROGRAM = """
import json, os, pathlib, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
number, handle, token = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4]
plan = json.loads(pathlib.Path(sys.argv[3]).read_text())
signal.signal(signal.SIGTERM, (lambda *_: None) if plan.get("stubborn") else (lambda *_: os._exit(plan.get("end", 0))))
if (code := plan.get("exit", {}).get(str(number))) is not None:
    sys.exit(code)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        ready = plan.get("unready") != number
        asked = self.path
        if asked == "/v1/status" and plan.get("hangs") == number:
            time.sleep(3600)
        body = f"# TYPE done_total counter\\ndone_total {10 * number}\\n" if self.path == "/metrics" else json.dumps(
            {"ready": True, "without": "cache: x"} if ready else {"error": "waits", "waits": [{"reason": "group"}]})
        if asked in ("/v1/status", "/v1/overview?since=5"):
            body = json.dumps({"role": "worker", "pid": number})
        if self.headers["authorization"] != f"Bearer {token}":
            self.send_response(401)
        else:
            self.send_response(200 if ready or asked != "/readyz" else 503)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
os.write(handle, b"%d" % server.server_address[1])
server.serve_forever()
"""

TOKEN = "a-token"


class Small(Workers):
    def __init__(self, settings: Settings, count: int, plan: Path) -> None:
        super().__init__(settings, count, ["--input", "texts"])
        self.plan = plan

    def _command(self, member: Member, says: int) -> list[str]:
        return [sys.executable, "-S", "-c", PROGRAM, str(member.number), str(says), str(self.plan), TOKEN]

    def process(self, number: int) -> int:
        process = self._members[number - 1].process
        assert process
        return process.pid

    async def asked(self, path: str) -> list[Mapping[str, Any]]:
        app = httpx.ASGITransport(create_sums_app(self, None))
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            processes: list[Mapping[str, Any]] = (await client.get(path)).json()["processes"]
            return processes

    async def until(self, condition: Callable[[str], bool]) -> str:
        """Asked as a person does, over HTTP."""
        app = httpx.ASGITransport(create_sums_app(self, None))
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            said = ""
            with anyio.move_on_after(30):
                while True:
                    said = (await client.get("/readyz")).text + (await client.get("/metrics")).text
                    if condition(said):
                        return said
                    await anyio.sleep(0.02)
        raise AssertionError(said)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    return path


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@asynccontextmanager
async def running(plan: Path, count: int = 2, **options: Any) -> AsyncIterator[Small]:
    settings = load_settings(None, {}, {"http.token": TOKEN, **options})
    others = children()  # as a broker of the tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers_module, "ASK_SECONDS", 30.0)  # whatever else the machine does
        patch.setattr(workers_module, "STATUS_SECONDS", 30.0)
        workers = Small(settings, count, plan)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        yield workers
        workers.stop()
    assert children() <= others


def done(count: int) -> Callable[[str], bool]:
    return lambda said: f"done_total {count}.0" in said


async def test_they_are_one_to_whoever_asks(plan: Path) -> None:
    async with running(plan, 3) as workers:
        said = await workers.until(lambda said: done(60)(said) and '"ready":true' in said)
        assert "worker 1: cache: x; worker 2: cache: x; worker 3: cache: x" in said
        for path in ("v1/status", "v1/overview?since=5"):
            assert [document["pid"] for document in await workers.asked("/" + path)] == [1, 2, 3]
    assert workers.code == 0


@pytest.mark.slow
async def test_one_that_hangs_hides_no_other(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan.write_text('{"hangs": 2}')
    async with running(plan, 3) as workers:
        await workers.until(done(60))
        monkeypatch.setattr(workers_module, "STATUS_SECONDS", 3.0)
        first, second, third = await workers.documents("v1/status")
    assert (first["pid"], third["pid"]) == (1, 3)
    assert second == {"error": "worker 2: no answer within 3 s"}


async def test_one_that_is_not_ready_is_named(plan: Path) -> None:
    plan.write_text('{"unready": 2}')
    async with running(plan) as workers:
        said = await workers.until(lambda said: '"error":"worker 2: waits"' in said)
        assert '"waits":[{"worker":2,"reason":"group"}]' in said


@pytest.mark.slow
async def test_one_that_dies_is_started_again_and_what_it_counted_stays(
    plan: Path, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    monkeypatch.setattr(workers_module, "RESTARTS", BackoffPolicy(initial=1.0, maximum=1.0))
    async with running(plan) as workers:
        await workers.until(done(30))
        psutil.Process(workers.process(2)).kill()
        said = await workers.until(lambda said: "started again" in said)
        assert "worker 2: ended with exit code -9; it is started again" in said
        await workers.until(done(50))  # 20 of the old one, 10 and 20 of those that run
    assert workers.code == 0
    [line] = [line for line in logs if line["event"] == "worker ended; starting it again"]
    assert (line["worker"], line["code"]) == (2, -9)


@pytest.mark.parametrize("code", [2, 3])
async def test_what_is_wrong_at_the_start_is_told_once(plan: Path, code: int) -> None:
    plan.write_text(f'{{"exit": {{"1": {code}}}}}')
    settings = load_settings(None, {}, {"http.token": TOKEN})
    workers = Small(settings, 3, plan)
    with anyio.fail_after(30):
        await workers.run()
    assert workers.code == code
    assert [member.port for member in workers._members] == [None] * 3


@pytest.mark.slow
async def test_one_that_does_not_end_is_killed(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(workers_module, "END_SECONDS", 0.1)
    plan.write_text('{"stubborn": true}')
    async with running(plan, **{"delivery.drain_timeout_ms": 100}) as workers:
        await workers.until(done(30))
    assert workers.code == 1


async def test_one_that_ends_badly_shows_in_the_exit_code(plan: Path) -> None:
    plan.write_text('{"end": 1}')
    async with running(plan) as workers:
        await workers.until(done(30))
    assert workers.code == 1


async def test_what_each_of_them_is_told() -> None:
    options = {"kafka.group_instance_id": "w", "provider.name": "onnx"}
    workers = Workers(load_settings(None, {}, options), 2, ["-b", "broker:9092", "--set", "http.worker_port=9000"])
    command = workers._command(workers._members[1], 7)
    assert command[1:7] == ["-m", "streamer", "run", "-b", "broker:9092", "--set"]
    assert command.index("http.worker_port=0") > command.index("http.worker_port=9000")
    assert {"kafka.group_instance_id=w-2", "provider.threads=1", "http.host=127.0.0.1"} <= set(command)
    assert command[-2:] == ["--as-worker", "2:7"]
    await workers._client.aclose()


def test_a_worker_that_nobody_started_reports_to_nobody() -> None:
    assert report_to("") is None
