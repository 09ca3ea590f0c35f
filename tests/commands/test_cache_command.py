"""`streamer cache` on a file and on a server that a worker is using."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from streamer.adapters.redis.cache import RedisVectorCache
from streamer.adapters.redis.link import RedisLink
from tests.adapters.sqlite.cached_entries import SPACE, entries, find, opened
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY
from tests.support.redis_server import redis_server
from tests.support.schemas import check_lines

pytestmark = pytest.mark.anyio

OPENAI = {"STREAMER_PROVIDER__NAME": "openai", "STREAMER_PROVIDER__API_KEY": "sk-x"}


async def test_its_actions_work_while_a_worker_uses_the_file(tmp_path: Path) -> None:
    """First hour R10."""
    path = tmp_path / "streamer-cache.sqlite"
    async with opened(path) as worker:
        await worker.put_many(entries(range(2_500)))
        stats = await streamer("cache", "stats", "--json")
        assert stats.code == 0, stats.stderr
        assert [file["entries"] for file in check_lines("cache-line", stats.stdout)] == [2_500]
        pruned = await streamer("cache", "prune", "--set", "cache.max_bytes=500000", **OPENAI)
        assert pruned.code == 0, pruned.stderr
        assert 0 < len(await find(worker, range(2_500))) < 1_500
        await worker.put_many(entries([9_000]))
        cleared = await streamer("cache", "clear", **OPENAI)
        assert cleared.code == 0, cleared.stderr
        assert "0 vectors" in cleared.stdout
        assert await find(worker, [*range(2_500), 9_000]) == []
        await worker.put_many(entries([1]))
        assert await find(worker, [1]) == [1]
        assert worker.statistics().faults_total == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("action", ["prune", "clear"])
async def test_it_does_in_the_midst_of_a_workers_writes(action: str, tmp_path: Path) -> None:
    """First hour R10."""
    async with opened(tmp_path / "streamer-cache.sqlite") as worker, anyio.create_task_group() as tasks:
        stopped = anyio.Event()
        written = 0

        async def write() -> None:
            nonlocal written
            while not stopped.is_set():
                await worker.put_many(entries(range(written, written + 50)))
                written += 50

        tasks.start_soon(write)
        for _ in range(2):
            done = await streamer("cache", action, "--set", "cache.max_bytes=200000", **OPENAI)
            assert done.code == 0, done.stderr
        stopped.set()
    async with opened(tmp_path / "streamer-cache.sqlite") as worker:
        await worker.put_many(entries([written]))
        assert await find(worker, [written]) == [written]
        assert worker.statistics().faults_total == 0


@pytest.mark.parametrize("action", ["prune", "clear"])
async def test_there_is_nothing_to_do_without_a_file_and_no_file_is_made(action: str, tmp_path: Path) -> None:
    """First hour R10."""
    done = await streamer("cache", action, **OPENAI)
    assert done.code == 2
    assert "cache.path = streamer-cache.sqlite: there is no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_its_actions_reach_the_server_that_the_settings_name(tmp_path: Path) -> None:
    with redis_server(tmp_path / "server", requirepass="s3cret") as server:
        shared = ["--set", f"cache.url={server.url}"]
        async with (
            RedisLink.open(server.url) as link,
            RedisVectorCache.open(link, SPACE, ttl_seconds=None) as worker,
        ):
            await worker.put_many(entries(range(20)))
            stats = await streamer("cache", "stats", "--json", *shared)
            [found] = check_lines("cache-line", stats.stdout)
            assert (found["entries"], found["spaces"]) == (20, {f"{SPACE.id} fake fake-1": 20})
            assert found["path"] == f"redis://***@127.0.0.1:{server.port}/0"
            assert (await streamer("cache", "prune", *shared)).code == 0
            assert await find(worker, range(20)) == list(range(20))
            cleared = await streamer("cache", "clear", *shared)
            assert "0 vectors" in cleared.stdout
            assert await find(worker, range(20)) == []
        checked = await streamer("check", "-b", NOBODY, "--set", "kafka.connect_timeout_ms=200", *shared)
        assert f"ok      cache: redis://***@127.0.0.1:{server.port}/0: 0 vectors, 0 bytes" in checked.stdout
        server.kill()
        away = await streamer("cache", "stats", *shared)
        assert away.code == 3
        assert away.stderr.splitlines()[-1].startswith("streamer: cache.url = redis://***@127.0.0.1:")
        assert "s3cret" not in stats.stdout + checked.stdout + away.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["server"]
