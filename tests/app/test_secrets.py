"""Field case R5: what is printed, logged, answered and written to disk, and who may read it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from streamer.adapters.providers.http_errors import Vendor
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.vectors import Space
from streamer.http.health import create_health_app
from streamer.http.role_state import RoleState
from streamer.logs import configure_logs
from streamer.settings import load_settings
from tests.commands.in_process import empty_folder, streamer  # noqa: F401 - a fixture
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

URL = "https://user:hunter2@gateway.example.com/v1"
SPACE = Space(provider="p", model="m", dimensions=2)


@pytest.mark.parametrize("format_", [[], ["--json"]])
async def test_r5_the_settings_are_shown_without_the_user_in_an_address(format_: list[str]) -> None:
    fallback = '[{"base_url": "https://user:hunter2@other.example.com/v1", "api_key": "hunter2"}]'
    done = await streamer(
        "config", *format_, STREAMER_PROVIDER__NAME="openai", STREAMER_PROVIDER__BASE_URL=URL,
        STREAMER_PROVIDER__FALLBACK=fallback,
        OPENAI_API_KEY="hunter2",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "hunter2" not in done.stdout
    assert "https://***@gateway.example.com/v1" in done.stdout
    assert "https://***@other.example.com/v1" in done.stdout


async def test_r5_errors_do_not_hold_it_either() -> None:
    for name, value, words in [
        ("STREAMER_PROVIDER__TIMEOUT_SECONDS", URL, "gateway.example.com"),
        ("STREAMER_KAFKA__BOOTSTRAP_SERVERS", URL, "sasl_username and sasl_password"),
        ("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "user:hunter2@broker:9092", "write host:port"),
        ("STREAMER_PROVIDER__BASE_URL", "user:hunter2@host", "base_url must look like"),
    ]:
        for debug in ([], ["--debug"]):
            environ = {"STREAMER_PROVIDER__NAME": "openai", "OPENAI_API_KEY": "sk-test", name: value}
            done = await streamer("embed", "a text", *debug, **environ)
            assert done.code == 2, done.stderr
            assert words in done.stderr
            assert "hunter2" not in done.stderr


def test_r5_a_vendors_words_hold_no_address_with_a_user() -> None:
    vendor = Vendor("openai")
    assert "hunter2" not in str(vendor.unreachable(httpx.ConnectError(f"no route to {URL}")))
    assert "hunter2" not in str(vendor.refusal(500, {}, f'{{"error": {{"message": "upstream {URL} failed"}}}}'))


@pytest.mark.parametrize("debug", [False, True])
def test_r5_log_lines_hold_none(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure_logs(level="debug" if debug else "info")
        import structlog

        structlog.get_logger("streamer").warning("provider away", url=URL, reason=repr(OSError(URL)))
        logging.getLogger("httpx").warning("HTTP Request: %s %s", "POST", httpx.URL(URL).copy_with(password="hunter2"))
        try:
            raise OSError(URL)
        except OSError:
            structlog.get_logger("streamer").exception("failed")
            logging.getLogger("library").exception("failed")
    finally:
        logging.basicConfig(handlers=before[0], level=before[1], force=True)
        structlog.reset_defaults()
    said = capsys.readouterr().err
    assert said.count("gateway.example.com") >= 5
    assert "hunter2" not in said


async def test_r5_readiness_holds_none() -> None:
    class Waiting:
        def state(self) -> RoleState:
            return RoleState(not_ready=f"provider down: {URL}")

        def statistics(self) -> Any:
            raise NotImplementedError

    async with serving(create_health_app("worker", Waiting())) as client:
        assert (await client.get("/readyz")).json() == {"error": "provider down: https://***@gateway.example.com/v1"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_r5_a_cache_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cache.sqlite"
    async with SqliteVectorCache.open(path, SPACE, ttl_seconds=None, max_bytes=None) as cache:
        del cache
        files = [file for file in path.parent.iterdir() if file.is_file()]
        assert len(files) >= 3, "the file, its log and its lock"
        assert {file.name: oct(mode(file)) for file in files if mode(file) != 0o600} == {}


async def test_r5_a_cache_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    for kept in (0o600, 0o640, 0o400 | 0o200):
        path.touch()
        path.chmod(kept)
        async with SqliteVectorCache.open(path, SPACE, ttl_seconds=None, max_bytes=None):
            assert mode(path) == kept


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("left_behind", [False, True])
async def test_r5_a_snapshot_is_for_its_user_alone(tmp_path: Path, left_behind: bool) -> None:
    path, part = tmp_path / "new" / "index.snapshot", tmp_path / "new" / "index.snapshot.part"
    if left_behind:
        part.parent.mkdir()
        part.write_bytes(b"of an older version, killed while it wrote")
        part.chmod(0o666)
    async with SnapshotFile(path).replacing() as write:
        await write(np.zeros(4).tobytes())
        assert mode(part) == 0o600
    assert mode(path) == 0o600


async def test_r5_a_snapshot_that_others_could_read_is_narrowed_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    path.write_bytes(b"old")
    path.chmod(0o644)
    async with SnapshotFile(path).replacing() as write:
        await write(b"new")
    assert (mode(path), path.read_bytes()) == (0o600, b"new")
    await anyio.Path(path).unlink()


def test_r5_a_token_is_never_shown() -> None:
    settings = load_settings(environ={"STREAMER_HTTP__TOKEN": "hunter2"})
    assert "hunter2" not in repr(settings) + str(settings.redacted())
