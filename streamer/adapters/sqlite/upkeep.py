"""Counting what is in a cache file and deleting what should not be."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from streamer.adapters.sqlite import rows
from streamer.adapters.sqlite.file import BUSY_SECONDS, CacheFile, names, to_the_end
from streamer.errors import StreamerError

# Rows deleted, and pages returned, at a time, so that readers and other processes get their turn.
CHUNK = 1000
MOST_RETURNED_PAGES = 1024
ROW_BYTES = 160  # of an entry beside its vector: key, numbers and three indices


@dataclass(frozen=True, slots=True)
class CacheContents:
    """What a cache file holds. `bytes`: on disk; `spaces`: entries by the id, provider and model of their space."""

    path: str
    bytes: int
    entries: int
    spaces: Mapping[str, int]


async def read_contents(path: Path) -> list[CacheContents]:
    """Of the file at `path` and of `<path>-2`, `<path>-3`, ..., in use or not; those that exist.

    Raises StreamerError when a file cannot be read.
    """
    found = []
    for file in names(path):
        if not file.exists():
            continue
        try:
            found.append(await to_the_end(_read(file)))
        except (sqlite3.Error, OSError) as exc:
            raise StreamerError(f"{file} cannot be read as a cache: {exc}") from exc
    return found


async def contents_of(connection: aiosqlite.Connection, path: Path) -> CacheContents:
    spaces: dict[str, int] = dict(await _fetch(connection, rows.COUNT))
    [[used, free, size]] = await _fetch(connection, rows.PAGES)
    return CacheContents(str(path), (used + free) * size, sum(spaces.values()), spaces)


async def _read(path: Path) -> CacheContents:
    file = CacheFile(path, next_if_taken=False)
    try:
        # Not read-only: after its worker was killed, a file can be read only when its log has been gone through.
        async with file.turn():
            connection = await aiosqlite.connect(path, timeout=BUSY_SECONDS)
            try:
                await connection.execute_fetchall("PRAGMA query_only = ON")
                await _fetch(connection, rows.PAGES)
            except BaseException:
                await connection.close()
                raise
        try:
            return await contents_of(connection, path)
        finally:
            async with file.turn():
                await connection.close()
    finally:
        file.release()


async def make_room(
    connection: aiosqlite.Connection, entries: int, *, dimensions: int, max_bytes: float
) -> list[rows.Row]:
    """Delete least recently used entries so that `entries` new ones fit; the numbers of the rows that were deleted.

    The new entries should take those numbers. Rows that were not used for long lie scattered; without them pages are
    half empty, which makes no room for rows at the end of the table. Where a lowered limit leaves a file far too big,
    it shrinks by up to CHUNK rows at each call; with no new entries, every call brings it nearer to its limit.
    """
    if math.isinf(max_bytes):
        return []
    [[used, _, size]] = await _fetch(connection, rows.PAGES)
    row_bytes = 4 * dimensions + ROW_BYTES
    excess = used * size - max_bytes
    if excess + entries * row_bytes <= 0:
        return []
    # A little excess is normal: the last entries stored were of a bigger size, or their pages are not quite full.
    tolerated = 0.1 * max_bytes if entries else 0.0
    surplus = min(CHUNK, math.ceil(excess / row_bytes)) if excess > tolerated else 0
    victims = await _fetch(connection, rows.LEAST_USED, entries + surplus)
    await run(connection, rows.DELETE, victims)
    return victims


async def purge(connection: aiosqlite.Connection, *, now: float, ttl: float) -> bool:
    """Delete up to CHUNK entries that were stored `ttl` seconds before, or after, `now`; whether there may be more."""
    if math.isinf(ttl):
        return False
    async with connection.execute(rows.PURGE, [now - ttl, now + ttl, CHUNK]) as cursor:
        return int(cursor.rowcount) >= CHUNK


async def clear(connection: aiosqlite.Connection) -> bool:
    """Delete up to CHUNK entries; whether there may be more."""
    async with connection.execute(rows.CLEAR, [CHUNK]) as cursor:
        return int(cursor.rowcount) >= CHUNK


async def shrink(connection: aiosqlite.Connection, *, keep: int = 0) -> bool:
    """Give up to MOST_RETURNED_PAGES free pages back to the disk, but for `keep`; whether there are more."""
    [[_, free, _]] = await _fetch(connection, rows.PAGES)
    pages = min(free - keep, MOST_RETURNED_PAGES)
    if pages > 0:
        # As a script: `execute` would take one step of the statement, which is one page.
        async with connection.executescript(f"PRAGMA incremental_vacuum({pages})"):
            pass
    return int(free) - keep > MOST_RETURNED_PAGES


async def run(connection: aiosqlite.Connection, statement: str, parameters: Iterable[rows.Row]) -> None:
    """Execute a statement with each of these parameters."""
    async with connection.executemany(statement, parameters):
        pass


async def _fetch(connection: aiosqlite.Connection, statement: str, *parameters: object) -> list[Any]:
    return list(await connection.execute_fetchall(statement, parameters))
