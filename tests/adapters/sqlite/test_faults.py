"""The cache on files that are deleted, damaged and locked, and on disks that are full or read-only."""

# ruff: noqa: ASYNC221, ASYNC240 - a test may block its own loop

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from structlog.testing import capture_logs

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.adapters.sqlite.entries import Entries
from streamer.errors import StreamerError
from tests.adapters.sqlite.cached_entries import embedding_of, entries, find, key_of, no_thread_is_left, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.fixture
async def template(tmp_path: Path) -> Path:
    """A closed file with the entries 0 to 99."""
    template = tmp_path / "template.sqlite"
    async with opened(template) as cache:
        await cache.put_many(entries(range(100)))
    return template


async def test_a_deleted_file_is_begun_anew(path: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries(range(100)))
        path.unlink()
        await find(cache, range(100))
        await cache.put_many(entries(range(200, 210)))
        assert await find(cache, range(300)) == list(range(200, 210))
        shutil.rmtree(path.parent)
        await cache.put_many(entries(range(10)))
        assert await find(cache, range(300)) == list(range(10))
        async with opened(path) as second:  # the lock was deleted too, and is there again
            await second.put_many(entries([11]))
        assert await find(cache, [11]) == [11]
        path.unlink()  # and the log of the old file stays
        async with opened(path) as second:
            await second.put_many(entries([12]))
            assert await find(second, range(300)) == [12]
            await cache.put_many(entries([13]))
            assert await find(cache, range(300)) == await find(second, range(300)) == [12, 13]
    async with opened(path) as cache:
        assert await find(cache, range(300)) == [12, 13]


async def test_a_file_put_in_its_place_is_used_without_the_log_of_the_old_one(path: Path, template: Path) -> None:
    with capture_logs() as logs:
        async with opened(path) as cache, opened(path) as beside:
            await cache.put_many(entries(range(500, 600)))
            template.rename(path)
            await cache.put_many(entries([200]))
            await beside.put_many(entries([201]))
            for user in (cache, beside):
                assert await find(user, range(600)) == [*range(100), 200, 201]
    assert [line["event"] for line in logs] == ["cache file deleted or replaced; opening it again"] * 2


async def test_a_file_deleted_without_its_log_is_begun_anew(path: Path, template: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries(range(100)))
        shutil.copy(f"{path}-wal", template)
    shutil.copy(template, f"{path}-wal")
    path.unlink()
    async with opened(path) as cache:
        assert await find(cache, range(100)) == []
        await cache.put_many(entries([1]))
        assert await find(cache, range(100)) == [1]


async def test_a_file_overwritten_with_garbage_while_in_use_is_set_aside(path: Path) -> None:
    with capture_logs() as logs:
        async with opened(path) as cache:
            for start in range(0, 9000, 500):
                await cache.put_many(entries(range(start, start + 500)))
            await limited(cache, "shrink_memory")  # what is in memory is not damaged
            for part in (path, Path(f"{path}-wal")):
                with part.open("r+b") as file:
                    file.write(random.Random(1).randbytes(part.stat().st_size))
            for start in range(0, 9000, 500):
                await find(cache, range(start, start + 500))
            await cache.put_many(entries(range(20)))
            assert await find(cache, range(9000)) == list(range(20))
            assert cache.statistics().available
    [aside] = path.parent.glob("*.corrupt-??????????")
    assert [line["event"] for line in logs] == ["cache file damaged; starting an empty one"]
    assert logs[0]["set_aside"] == str(aside)
    async with opened(path) as cache:
        assert await find(cache, range(9000)) == list(range(20))


@pytest.mark.parametrize("content", [b"", b"not a database, " * 5000, b"SQLite format 3\0" + bytes(5000)])
async def test_whatever_the_file_was_it_is_a_cache_afterwards(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    async with opened(path) as cache:
        await cache.put_many(entries(range(10)))
        assert await find(cache, range(10)) == list(range(10))
    assert [aside.read_bytes() for aside in path.parent.glob("*corrupt*")] == [content][: len(content)]


@pytest.mark.slow
async def test_no_flipped_byte_of_the_header_does_harm(path: Path, template: Path) -> None:
    path.parent.mkdir()
    whole = template.read_bytes()
    survivors = 0
    for place in range(100):
        with capture_logs():
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            async with opened(path) as cache:
                survivors += await find(cache, range(100)) == list(range(100))
                for _ in range(2):  # some damage is found by the first to write, who is not served
                    await cache.put_many(entries(range(200, 210)))
                # The 19th byte says who may write the file; flipped, that nobody may.
                assert await find(cache, range(200, 210)) == ([] if place == 18 else list(range(200, 210)))
        for file in path.parent.iterdir():
            file.unlink()
    assert 30 < survivors < 80


@pytest.mark.slow
async def test_no_flipped_byte_anywhere_gives_a_wrong_vector(path: Path, template: Path) -> None:
    path.parent.mkdir()
    whole, chance = template.read_bytes(), random.Random(2)
    hits = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with capture_logs():
            async with opened(path) as cache:
                hits += len(await find(cache, range(100)))
                await cache.put_many(entries(range(300)))
                await find(cache, range(300))
        for file in path.parent.iterdir():
            file.unlink()
    assert 40 * 100 * 0.3 < hits < 40 * 100


async def test_a_vector_with_a_flipped_bit_is_a_miss_and_stored_again(template: Path) -> None:
    key = key_of(7)
    content = template.read_bytes()
    place = content.index(embedding_of(key).vector.tobytes()) + 100
    template.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    async with opened(template) as cache:
        assert await find(cache, range(100)) == [number for number in range(100) if number != 7]
        assert cache.statistics().damaged_total == 1
        assert (await cache.stats()).entries == 99
        await cache.put_many(entries([7]))
        assert await find(cache, [7]) == [7]


@pytest.mark.parametrize(
    "damage",
    [
        "tokens = tokens + 1",
        "truncated = 1 - truncated",
        "tokens = NULL",
        "vector = substr(vector, 5)",
        "vector = NULL",
        "vector = 7",
        "key = 'text'",
        "created = NULL",
        "used = 'x'",
        "vector = (SELECT vector FROM entry WHERE id = 4), checksum = (SELECT checksum FROM entry WHERE id = 4)",
    ],
)
async def test_a_row_that_is_not_what_was_stored_is_a_miss(template: Path, damage: str) -> None:
    with closing(sqlite3.connect(template)) as connection:
        [[definition]] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'entry'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'entry'", [definition.replace("NOT NULL", "")]
        )
        connection.commit()
    with closing(sqlite3.connect(template)) as connection:
        connection.execute(f"UPDATE entry SET {damage} WHERE id = 3")
        connection.commit()
    async with opened(template) as cache:
        assert await find(cache, range(100)) == [number for number in range(100) if number != 2]
        await cache.put_many(entries([2]))
        assert await find(cache, [2]) == [2]


async def test_a_file_of_another_version_is_set_aside(template: Path) -> None:
    with closing(sqlite3.connect(template)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    Path(f"{template}.corrupt-1234567890").touch()
    with capture_logs() as logs:
        async with opened(template) as cache:
            assert await find(cache, range(100)) == []
            await cache.put_many(entries([1]))
    assert "version 99" in logs[0]["reason"]
    assert [str(aside) for aside in template.parent.glob("*.corrupt-*")] == [logs[0]["set_aside"]]  # only the latest


OUTAGE = ["cache unavailable", "cache available again"]


def events(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line["event"] for line in logs]


async def test_a_disk_that_damages_file_after_file_is_left_alone(path: Path) -> None:
    async def damage(cache: SqliteVectorCache) -> None:
        connection = cache._access._connection
        assert connection
        exc = sqlite3.DatabaseError("database disk image is malformed")
        exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        await cache._access._fault(connection, exc)

    with capture_logs() as logs:
        async with opened(path, retry_seconds=1000.0) as cache:
            await damage(cache)
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == [1]
            await damage(cache)
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == []
    damaged = "cache file damaged; starting an empty one"
    assert [line["event"] for line in logs] == [damaged, damaged, "cache unavailable"]
    assert len(list(path.parent.glob("*.corrupt-??????????"))) == 1


# Disks


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[None]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk")
async def test_a_full_disk_keeps_what_it_has_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    async with small_disk(disk):
        with capture_logs() as logs:
            async with opened(disk / "vectors.sqlite") as cache:
                await cache.put_many(entries(range(100)))
                (disk / "other").write_bytes(bytes((shutil.disk_usage(disk).free // 4096 - 12) * 4096))
                for start in range(1000, 5000, 500):
                    await cache.put_many(entries(range(start, start + 500)))
                assert await find(cache, range(100)) == list(range(100))
                assert cache.statistics().dropped_total > 0
                (disk / "other").unlink()
                await cache.put_many(entries(range(9000, 9010)))
                assert await find(cache, range(9000, 9010)) == list(range(9000, 9010))
        assert events(logs) == OUTAGE, "once each, however many writes failed"
        assert logs[0]["reason"].startswith("not writable: ")

        (disk / "other").touch()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with capture_logs() as logs:
            async with opened(disk / "vectors.sqlite") as cache:
                await cache.put_many(entries([1]))
                assert await find(cache, [1]) == []
        assert events(logs) == OUTAGE[:1]


async def limited(cache: SqliteVectorCache, pragma: str) -> None:
    """Let SQLite itself refuse to write, with the code that a disk gives."""
    assert cache._access._connection
    await cache._access._connection.execute_fetchall(f"PRAGMA {pragma}")


@pytest.mark.parametrize(
    ("fault", "cure", "reason"),
    [
        ("max_page_count = 1", "max_page_count = 1000000", "full"),
        ("query_only = ON", "query_only = OFF", "readonly"),
    ],
)
async def test_what_cannot_be_written_can_still_be_read(path: Path, fault: str, cure: str, reason: str) -> None:
    with capture_logs() as logs:
        async with opened(path) as cache:
            await cache.put_many(entries(range(100)))
            await limited(cache, fault)
            await cache.put_many(entries(range(1000, 2000)))
            assert await find(cache, range(100)) == list(range(100))
            assert (cache.statistics().dropped_total, cache.statistics().faults_total) == (1000, 1)
            await limited(cache, cure)
            await cache.put_many(entries(range(1000, 2000)))
            assert await find(cache, range(2000)) == [*range(100), *range(1000, 2000)]
    assert events(logs) == OUTAGE
    assert reason in logs[0]["reason"]


async def test_a_write_that_fails_half_way_is_undone(path: Path) -> None:
    async def fail(connection: aiosqlite.Connection, _: Entries) -> None:
        for statement in (
            "BEGIN IMMEDIATE",
            "DELETE FROM entry WHERE id < 50",
            "PRAGMA query_only = ON",
            "DELETE FROM entry",
        ):
            await connection.execute_fetchall(statement)

    with capture_logs() as logs:
        async with opened(path) as cache:
            await cache.put_many(entries(range(100)))
            write = cache._access.write(fail)
            assert write
            assert not await write
            await limited(cache, "query_only = OFF")
            assert await find(cache, range(100)) == list(range(100))
            await cache.put_many(entries([200]))
            assert await find(cache, [200]) == [200]
    assert events(logs) == OUTAGE


async def test_between_two_tries_nothing_is_written_and_nothing_is_logged(path: Path) -> None:
    with capture_logs() as logs:
        async with opened(path, retry_seconds=1000.0) as cache:
            await limited(cache, "query_only = ON")
            for number in range(5):
                await cache.put_many(entries([number]))
            await limited(cache, "query_only = OFF")
            await cache.put_many(entries([9]))
            assert await find(cache, range(10)) == []
            assert (cache.statistics().dropped_total, cache.statistics().faults_total) == (6, 1)
            with pytest.raises(StreamerError, match="readonly"):
                await cache.clear()
    assert len(logs) == 1


@pytest.mark.slow
async def test_another_program_that_holds_the_file_is_not_waited_for_long(path: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries([1]))
        with closing(sqlite3.connect(path, isolation_level=None)) as other, capture_logs() as logs:
            other.execute("BEGIN IMMEDIATE")
            await cache.put_many(entries([2]))
            assert await find(cache, [1, 2]) == [1]
            other.execute("ROLLBACK")
        await cache.put_many(entries([2]))
        assert await find(cache, [1, 2]) == [1, 2]
    assert "locked" in logs[0]["reason"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere; see the full disk above")
async def test_a_folder_that_may_not_be_written(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o500)
    with capture_logs() as logs:
        async with opened(path) as cache:
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == []
            path.parent.chmod(0o700)
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == [1]
    assert events(logs) == OUTAGE


async def test_a_place_where_there_can_be_no_file_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is meant to be")
    with capture_logs() as logs:
        async with opened(tmp_path / "cache" / "vectors.sqlite") as cache:
            assert not cache.statistics().available
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == []
            with pytest.raises(StreamerError, match="cannot be used"):
                await cache.stats()
            (tmp_path / "cache").unlink()
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == [1]
    assert events(logs) == OUTAGE


async def test_a_folder_in_place_of_the_file_is_a_fault_like_others(path: Path) -> None:
    path.mkdir(parents=True)
    with capture_logs():
        async with opened(path) as cache:
            await cache.put_many(entries([1]))
            assert await find(cache, [1]) == []
            assert not cache.statistics().available
    assert no_thread_is_left()
