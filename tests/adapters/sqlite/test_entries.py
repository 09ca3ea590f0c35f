"""How rows are found in files of this and the earlier version, and how big a page is."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.sqlite.rows import PAGE_SIZES, page_size
from streamer.protocols import Embedding
from tests.adapters.sqlite.cached_entries import SPACE, Clock, embedding_of, entries, find, key_of, opened

pytestmark = pytest.mark.anyio

EARLIER_TABLES = """
    PRAGMA page_size = 16384;
    PRAGMA journal_mode = WAL;
    CREATE TABLE space (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY, space_id INTEGER NOT NULL, key BLOB NOT NULL, vector BLOB NOT NULL,
        tokens INTEGER NOT NULL, truncated INTEGER NOT NULL, checksum INTEGER NOT NULL,
        created REAL NOT NULL, used INTEGER NOT NULL, UNIQUE (space_id, key));
    CREATE INDEX entry_created ON entry (created);
    CREATE INDEX entry_used ON entry (used, created);
    PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite"


async def test_two_texts_with_the_same_place_displace_each_other_and_are_never_confused(path: Path) -> None:
    first = key_of(1)
    second = first[:8] + key_of(2)[8:]
    async with opened(path) as cache:
        for key, other in ((first, second), (second, first), (first, second)):
            await cache.put_many({key: embedding_of(key)})
            found = await cache.get_many([key])
            assert found.keys() == {key}
            assert np.array_equal(found[key].vector, embedding_of(key).vector)
            assert await cache.get_many([other]) == {}
            assert (await cache.get_many([first, second])).keys() == {key}
        assert cache.statistics().damaged_total == 0
        assert (await cache.stats()).entries == 1


def earlier_row(key: bytes, embedding: Embedding) -> tuple[object, ...]:
    vector = embedding.vector.astype("<f4").tobytes()
    about = b"%d %d " % (embedding.tokens, embedding.truncated)
    return (key, vector, embedding.tokens, int(embedding.truncated), zlib.crc32(about + key + vector))


async def test_a_file_of_version_1_goes_on_as_it_is(path: Path) -> None:
    clock = Clock()
    with closing(sqlite3.connect(path)) as earlier:
        earlier.executescript(EARLIER_TABLES)
        earlier.execute("INSERT INTO space VALUES (7, ?, 'fake fake-1')", [SPACE.id])
        earlier.executemany(
            f"INSERT INTO entry VALUES (NULL, 7, ?, ?, ?, ?, ?, {clock.now}, 277777)",
            [earlier_row(key, embedding) for key, embedding in entries(range(100)).items()],
        )
        earlier.commit()
    async with opened(path, clock=clock) as cache:
        assert await find(cache, range(200)) == list(range(100))
        await cache.put_many(entries(range(90, 110)))
        assert await find(cache, range(200)) == list(range(110))
        assert (await cache.stats()).entries == 110
    async with opened(path, clock=clock, max_bytes=1) as cache:
        await cache.prune()
        await cache.put_many(entries([300]))
        assert await find(cache, range(400)) == [300]
    assert [file.name for file in path.parent.glob("*corrupt*")] == []
    with closing(sqlite3.connect(path)) as earlier:  # a process of the earlier version reads on, too
        assert earlier.execute("PRAGMA user_version").fetchone() == (1,)
        [row] = earlier.execute("SELECT key, vector, tokens, truncated, checksum FROM entry")
        assert row == earlier_row(key_of(300), embedding_of(key_of(300)))


@given(st.integers(1, 8192))
def test_a_page_is_no_bigger_than_it_must_be_to_be_full(dimensions: int) -> None:
    def entry_bytes(size: int) -> float:
        rows = (size - 8) // (4 * dimensions + 80)
        return size / rows if rows else float("inf")

    least = min(map(entry_bytes, PAGE_SIZES))
    chosen = page_size(dimensions)
    if least < float("inf"):
        assert entry_bytes(chosen) * 0.9 < least
        assert all(entry_bytes(size) > least for size in PAGE_SIZES if size < chosen)
    else:
        assert chosen == max(PAGE_SIZES)


async def test_a_page_of_a_new_file_has_that_size(path: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries(range(2000)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (page_size(SPACE.dimensions),) == (8192,)
