"""What the cache remembers, for how long, how much of it, and for whom."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from structlog.testing import capture_logs

from streamer.adapters.sqlite import cache as cache_module
from streamer.adapters.sqlite import file as file_module
from streamer.adapters.sqlite import read_contents, rows
from streamer.adapters.sqlite.entries import Entries
from streamer.errors import ConfigurationError, StreamerError
from tests.adapters.sqlite.cached_entries import (
    SPACE,
    Clock,
    embedding_of,
    entries,
    find,
    key_of,
    no_thread_is_left,
    opened,
)

pytestmark = pytest.mark.anyio


DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


async def test_what_was_stored_is_found_again_in_another_life(path: Path) -> None:
    async with opened(path) as cache:
        assert await find(cache, range(10)) == []
        await cache.put_many(entries(range(1300)))
        await cache.put_many({})
        assert await cache.get_many([]) == {}
    async with opened(path) as cache:
        assert await find(cache, [*range(1200, 1400), *range(600)]) == [*range(1200, 1300), *range(600)]
        twice = [key_of(1), key_of(2), key_of(1)]
        assert set(await cache.get_many(twice)) == set(twice)
        assert cache.statistics().stored_total == 0


async def test_a_closed_cache_is_an_empty_one(path: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries([1]))
    assert await find(cache, [1]) == []
    await cache.put_many(entries([2]))
    assert cache.statistics().dropped_total == 1


@pytest.mark.parametrize(
    "change", [{"model": "fake-2"}, {"dimensions": 48}, {"query_prefix": "q: "}, {"revision": "b"}]
)
async def test_another_space_finds_nothing(path: Path, change: dict[str, Any]) -> None:
    other = replace(SPACE, **change)
    async with opened(path) as cache:
        await cache.put_many(entries(range(50)))
    async with opened(path, other) as cache:
        assert await cache.get_many([key_of(number) for number in range(50)]) == {}
        await cache.put_many({key_of(1): embedding_of(key_of(1), other.dimensions)})
    async with opened(path) as cache:
        assert await find(cache, range(50)) == list(range(50))
        assert sorted((await cache.stats()).spaces.values()) == [1, 50]


async def test_statements_use_the_index(path: Path) -> None:
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        for statement in Entries.FIND.values():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * statement.count("?")).fetchall()
            assert "(space_id=? AND place=?)" in plan[0][-1]
        plan = connection.execute(f"EXPLAIN QUERY PLAN {rows.LEAST_USED}", [1]).fetchall()
        assert [step[-1] for step in plan] == ["SCAN entry USING COVERING INDEX entry_used"]


# Age and size


async def test_an_entry_counts_until_its_time_is_up_and_is_then_gone_for_good(path: Path) -> None:
    clock = Clock()
    async with opened(path, ttl_seconds=100.0, clock=clock) as cache:
        await cache.put_many(entries([1, 2]))
        clock.now += 99.999
        assert await find(cache, [1]) == [1]
        await cache.put_many(entries([2]))  # its time starts again
        clock.now += 0.001
        assert await find(cache, [1, 2]) == [2]
        assert cache.statistics().expired_total == 1
        assert (await cache.stats()).entries == 1
        clock.now -= 50  # set back: what had expired does not come back
        assert await find(cache, [1, 2]) == [2]


async def test_the_present_setting_counts_not_that_of_the_time_of_storing(path: Path) -> None:
    clock = Clock()
    async with opened(path, ttl_seconds=None, clock=clock) as cache:
        await cache.put_many(entries([1]))
    clock.now += 50
    async with opened(path, ttl_seconds=60.0, clock=clock) as cache:
        assert await find(cache, [1]) == [1]
    async with opened(path, ttl_seconds=40.0, clock=clock) as cache:
        assert await find(cache, [1]) == []


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -40 * 365 * DAY, 400 * 365 * DAY])
async def test_a_clock_that_jumps_costs_no_more_than_misses(path: Path, jump: float) -> None:
    clock = Clock()
    async with opened(path, ttl_seconds=100.0, clock=clock) as cache:
        await cache.put_many(entries([1]))
        clock.now += jump
        await find(cache, [1])
        await cache.put_many(entries([1, 2]))
        assert await find(cache, [1, 2]) == [1, 2]
        clock.now -= jump
        assert await find(cache, [2]) == []  # it lives no longer for having been stored in the future
        await cache.put_many(entries([3]))
        assert await find(cache, [3]) == [3]
    async with opened(path, ttl_seconds=None, clock=clock) as cache:
        clock.now += jump
        assert await find(cache, [3]) == [3]


async def test_old_entries_that_nobody_asks_for_are_deleted_in_passing(path: Path) -> None:
    clock = Clock()
    async with opened(path, ttl_seconds=100.0, clock=clock) as cache:
        for start in range(0, 2500, 500):
            await cache.put_many(entries(range(start, start + 500)))
        before = await cache.stats()
        clock.now += 101
        await cache.put_many(entries([5000]))
        assert (await cache.stats()).entries == 1
        assert before.entries == 2500


@pytest.mark.slow
async def test_the_file_stays_within_its_size_and_keeps_what_is_used(path: Path) -> None:
    clock, limit, batch = Clock(), 2_000_000, 200
    async with opened(path, max_bytes=limit, clock=clock) as cache:
        for start in range(0, 10_000, batch):
            clock.now += 240
            await cache.put_many(entries(range(start, start + batch)))
            assert await find(cache, range(0, 600, 6)) == list(range(0, min(start + batch, 600), 6))
            contents = await cache.stats()
            assert contents.bytes <= limit + batch * 1_000
        assert contents.entries > limit / (4 * 96 + 300)
        assert cache.statistics().evicted_total == 10_000 - contents.entries
        assert await find(cache, range(9_900, 10_000)) == list(range(9_900, 10_000))
    assert path.stat().st_size <= limit + batch * 1_000


async def test_entries_that_make_room_may_lie_scattered(path: Path) -> None:
    clock, limit, full = Clock(), 2_000_000, 0
    async with opened(path, max_bytes=limit, clock=clock) as cache:
        while not cache.statistics().evicted_total:
            await cache.put_many(entries(range(full, full + 100)))
            full += 100
        clock.now += 3_600
        used = [number for number in range(200, full) if number % 3]
        assert full > 3_000
        assert await find(cache, used) == used
        for start in range(10_000, 10_900, 100):
            await cache.put_many(entries(range(start, start + 100)))
            assert (await cache.stats()).bytes <= limit + 100 * 1_000
        clock.now += 3_600
        assert await find(cache, used) == used


@pytest.mark.slow
async def test_a_lower_limit_is_reached_by_and_by_or_at_once_by_pruning(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock=clock) as cache:
        for start in range(0, 10_000, 500):
            await cache.put_many(entries(range(start, start + 500)))
        full = await cache.stats()
    async with opened(path, max_bytes=2_000_000, clock=clock) as cache:
        for number in range(20_000, 20_020):
            clock.now += cache_module.TIDY_SECONDS
            await cache.put_many(entries([number]))
        slim = await cache.stats()
        assert await find(cache, range(20_000, 20_020)) == list(range(20_000, 20_020))
    async with opened(path, max_bytes=500_000, clock=clock) as cache:
        await cache.prune()
        pruned = await cache.stats()
    assert full.bytes > 5_000_000
    assert slim.bytes < 2_000_000 + (cache_module.SPARE_PAGES + 10) * 16_384
    assert pruned.bytes <= 500_000
    assert pruned.entries > 100
    assert path.stat().st_size == pruned.bytes


async def test_pruning_deletes_what_expired_and_clearing_everything(path: Path) -> None:
    clock = Clock()
    async with opened(path, ttl_seconds=100.0, clock=clock) as cache:
        await cache.put_many(entries(range(3000)))
        clock.now += 100
        await cache.put_many(entries(range(3000, 3010)))
    async with opened(path, replace(SPACE, model="fake-2"), ttl_seconds=100.0, clock=clock) as cache:
        await cache.put_many(entries(range(5)))
        await cache.prune()
        pruned = await cache.stats()
        assert sorted(pruned.spaces.values()) == [5, 10]
        await cache.clear()
        cleared = await cache.stats()
        assert (cleared.entries, cleared.bytes < 200_000) == (0, True)
        await cache.put_many(entries([1]))
        assert await find(cache, [1]) == [1]


# Other users of the file


async def test_two_caches_share_a_file(path: Path) -> None:
    with capture_logs() as logs:
        async with opened(path) as first, opened(path) as second:
            await first.put_many(entries([1]))
            assert await find(second, [1]) == [1]
            await second.put_many(entries([2]))
            assert await find(first, [1, 2]) == [1, 2]
            [contents] = await read_contents(path)
            assert contents.entries == 2
            async with opened(path, next_if_taken=False) as third:  # as the command does, while workers run
                await third.clear()
            assert await find(first, [1, 2]) == []
            await first.put_many(entries([3]))
            assert await find(second, [1, 2, 3]) == [3]
    assert logs == []
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


async def test_a_file_that_cannot_be_shared_is_left_to_its_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "network_file_system", lambda _: "nfs4")
    with capture_logs() as logs:
        async with opened(path) as first, opened(path) as second:
            await first.put_many(entries([1]))
            assert await find(second, [1]) == []
            await second.put_many(entries([2]))
            with pytest.raises(ConfigurationError, match=f"{path} is in use by process {os.getpid()}"):
                async with opened(path, next_if_taken=False):
                    pass
            assert not Path(f"{path}-shm").exists()  # no shared memory
            assert await find(first, [1, 2]) == [1]
            with pytest.raises(StreamerError, match=f"{path} is in use by process {os.getpid()}"):
                await read_contents(path)
        names = [(Path(found.path).name, found.entries) for found in await read_contents(path)]
        assert names == [("vectors.sqlite", 1), ("vectors.sqlite-2", 1)]
    lines = [(line["event"], line.get("reason"), line.get("instead")) for line in logs]
    alone = ("cache file cannot be shared; each process uses its own", "it is on a network file system (nfs4)", None)
    assert lines[:3] == [alone, alone, ("cache file in use by another process; using another file", None, f"{path}-2")]
    async with opened(path) as cache:
        assert await find(cache, [1, 2]) == [1]


async def test_shared_memory_that_cannot_be_had_is_done_without(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = aiosqlite.connect
    refused = sqlite3.OperationalError("disk I/O error")
    refused.sqlite_errorcode = 5386  # SQLITE_IOERR_SHMMAP
    attempts = iter([refused])

    def connecting(*args: Any, **options: Any) -> aiosqlite.Connection:
        if attempt := next(attempts, None):
            raise attempt
        return connect(*args, **options)

    monkeypatch.setattr(aiosqlite, "connect", connecting)
    with capture_logs() as logs:
        async with opened(path) as cache:
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == [1]
            assert not Path(f"{path}-shm").exists()
    assert [line["event"] for line in logs] == ["cache file cannot be shared; each process uses its own"]


async def test_a_database_of_something_else_is_refused_and_not_touched(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="an SQLite file that streamer did not create"):
        async with opened(path):
            pass
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}
    assert no_thread_is_left()
