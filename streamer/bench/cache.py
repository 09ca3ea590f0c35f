"""The cache file: hits and new entries a second, at so many entries, beside a bare query of the same table; and hits of
what was used in the last minute, which is in memory."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from streamer.adapters.sqlite import SqliteVectorCache, rows
from streamer.adapters.sqlite.entries import Entries
from streamer.bench.figures import Figure, Sample
from streamer.core.vectors import Matrix, Space, cache_key
from streamer.embedding.recent_vectors import RecentVectors
from streamer.embedding.tiered import RecentFirst, Tier
from streamer.protocols import Embedding

BATCH = 256
HOT = 40  # batches that are looked up again and again
MEMORY = 64_000_000  # bytes, as `cache.memory_bytes`
FILL = 4096  # entries of one transaction while the file is filled


async def measure_cache(
    *, runs: int, entries: int, dimensions: int, batches: int = 100, folder: str | None = None
) -> list[Figure]:
    """`folder`: where the file is made, and removed again; it takes 4 * dimensions + 120 bytes an entry."""
    space = Space(provider="bench", model="bench", dimensions=dimensions)
    rng = np.random.default_rng(1)
    pool = rng.standard_normal((FILL, dimensions), dtype=np.float32)
    hits = Figure(f"hits, {BATCH} at once", "hits/s", "bare sqlite3 query and frombuffer")
    recent_hits = Figure(f"hits of the last minute, {BATCH} at once", "hits/s")
    stores = Figure(f"new entries, {BATCH} at once", "entries/s")
    filled = Figure("filled", "entries/s")
    size = Figure("file of an entry", "B", "float32 vector")
    with tempfile.TemporaryDirectory(prefix="streamer-bench-", dir=folder) as name:
        path = Path(name) / "cache.sqlite"
        async with SqliteVectorCache.open(path, space, ttl_seconds=None, max_bytes=None) as cache:
            began, cpu = time.perf_counter(), time.process_time()
            for start in range(0, entries, FILL):
                await cache.put_many(_entries(range(start, min(entries, start + FILL)), pool))
            took, cost = time.perf_counter() - began, time.process_time() - cpu
            filled.add(Sample(entries / took, 1e6 * cost / entries))
            new = entries
            for _ in range(runs):
                chosen = rng.integers(entries, size=(batches, BATCH)).tolist()
                wanted = [_keys(batch) for batch in chosen]
                began, cpu = time.perf_counter(), time.process_time()
                found = 0
                for keys in wanted:
                    found += len(await cache.get_many(keys))
                own = _rate(found, began, cpu)
                expected = sum(len(set(keys)) for keys in wanted)
                if found != expected:
                    raise AssertionError(f"{found} of {expected} entries were found. This is a bug.")
                again = [_keys(batch) for batch in rng.integers(entries, size=(batches, BATCH)).tolist()]
                hits.add(own, _bare(path, again))
                recent_hits.add(await _from_memory(cache, wanted[:HOT], dimensions, batches))
                fresh = [_entries(range(at, at + BATCH), pool) for at in range(new, new + 20 * BATCH, BATCH)]
                new += 20 * BATCH
                began, cpu = time.perf_counter(), time.process_time()
                for batch in fresh:
                    await cache.put_many(batch)
                stores.add(_rate(20 * BATCH, began, cpu))
        size.add(Sample(path.stat().st_size / new), Sample(4.0 * dimensions))  # with all of the log in it
    return [hits, recent_hits, stores, filled, size]


async def _from_memory(cache: Tier, wanted: Sequence[Sequence[bytes]], dimensions: int, times: int) -> Sample:
    """What was looked up just now, as a worker looks it up."""
    first = RecentFirst(RecentVectors(dimensions=dimensions, max_bytes=MEMORY, seconds=3600.0), cache)
    for keys in wanted:
        await first.get_many(keys)
    began, cpu, found = time.perf_counter(), time.process_time(), 0
    for number in range(times):
        found += len(await first.get_many(wanted[number % len(wanted)]))
    return _rate(found, began, cpu)


def _bare(path: Path, wanted: Sequence[Sequence[bytes]]) -> Sample:
    """What one would write by hand: one query for a batch, a row of a matrix for each vector."""
    ours = Entries(1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(rows.FIND_TABLES).fetchall()
        began, cpu = time.perf_counter(), time.process_time()
        found = 0
        for keys in wanted:
            got = {row[1]: np.frombuffer(row[2], "<f4") for row in connection.execute(*ours.find(keys))}
            found += len(got)
        return _rate(found, began, cpu)


def _rate(count: int, began: float, cpu: float) -> Sample:
    return Sample(count / (time.perf_counter() - began), 1e6 * (time.process_time() - cpu) / count)


def _keys(numbers: Sequence[int]) -> list[bytes]:
    return [cache_key(f"text number {number}", "document") for number in numbers]


def _entries(numbers: range, pool: Matrix) -> dict[bytes, Embedding]:
    keys = _keys(numbers)
    return {key: Embedding(pool[n % len(pool)], 7, False) for key, n in zip(keys, numbers, strict=True)}
