"""`streamer cache` on a file that a worker is using."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.sqlite.cached_entries import entries, find, opened
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.schemas import check_lines

pytestmark = pytest.mark.anyio

OPENAI = {"STREAMER_PROVIDER__NAME": "openai", "STREAMER_PROVIDER__API_KEY": "sk-x"}


async def test_its_actions_work_while_a_worker_uses_the_file(tmp_path: Path) -> None:
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
