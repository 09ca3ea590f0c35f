"""Tables and rows of a cache file. Pure: no connection, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from streamer.protocols import Embedding

Row: TypeAlias = tuple[Any, ...]

VERSION = 1
HOUR = 3600.0  # how finely the last use is known: an entry's row is touched at most this often

# Pages of 16 KiB hold vectors whole and take twice as many inserts a second as those of 4 KiB. Page size and vacuum
# mode come first: they are settled with the first page.
PRAGMAS = (
    "PRAGMA page_size = 16384",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",  # power loss may cost the last transactions, never the file
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)

# For a file of one process: the log's index is in its own memory then, so that no shared memory is needed.
EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"

# Rows this big belong in a rowid table: WITHOUT ROWID takes a fifth of the inserts a second.
TABLES = (
    "CREATE TABLE space (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL)",
    """CREATE TABLE entry (
        id INTEGER PRIMARY KEY, space_id INTEGER NOT NULL, key BLOB NOT NULL, vector BLOB NOT NULL,
        tokens INTEGER NOT NULL, truncated INTEGER NOT NULL, checksum INTEGER NOT NULL,
        created REAL NOT NULL, used INTEGER NOT NULL, UNIQUE (space_id, key))""",
    "CREATE INDEX entry_created ON entry (created)",
    "CREATE INDEX entry_used ON entry (used, created)",
    f"PRAGMA user_version = {VERSION}",
)

FIND_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
ADD_SPACE = "INSERT INTO space (name, description) VALUES (?, ?) ON CONFLICT DO NOTHING"
FIND_SPACE = "SELECT id FROM space WHERE name = ?"
PUT = """INSERT INTO entry (id, space_id, key, vector, tokens, truncated, checksum, created, used)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (space_id, key) DO UPDATE SET vector = excluded.vector, tokens = excluded.tokens,
    truncated = excluded.truncated, checksum = excluded.checksum, created = excluded.created, used = excluded.used"""
TOUCH = "UPDATE entry SET used = ? WHERE id = ?"
DISCARD = "DELETE FROM entry WHERE id = ? AND created IS ?"
PURGE = "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE created <= ? OR created >= ? LIMIT ?)"
LEAST_USED = "SELECT id FROM entry ORDER BY used, created LIMIT ?"
DELETE = "DELETE FROM entry WHERE id = ?"
CLEAR = "DELETE FROM entry WHERE id IN (SELECT id FROM entry LIMIT ?)"
PAGES = """SELECT p.page_count - f.freelist_count, f.freelist_count, s.page_size
    FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s"""
COUNT = """SELECT name || ' ' || description, (SELECT count(*) FROM entry WHERE space_id = space.id)
    FROM space ORDER BY space.id"""

_GET = (
    "SELECT id, key, vector, tokens, truncated, checksum, created, used FROM entry WHERE space_id = ? AND key IN ({})"
)
# Few sizes, so that the statement is nearly always one that was prepared before; the rest is filled with NULL.
GET = {size: _GET.format(",".join("?" * size)) for size in (8, 64, 512)}
MOST_KEYS = max(GET)
_TYPES = [int, bytes, bytes, int, int, int, float, int]  # of the columns that `get` finds


def get(space_id: int, keys: list[bytes]) -> tuple[str, list[Any]]:
    """The statement that finds at most MOST_KEYS keys, and its parameters."""
    size = next(size for size in GET if size >= len(keys))
    return GET[size], [space_id, *keys, *[None] * (size - len(keys))]


def encode(space_id: int, key: bytes, embedding: Embedding, now: float) -> Row:
    """The parameters of PUT but for the first: a row's number, or None for the next one."""
    vector = embedding.vector.astype("<f4", copy=False).tobytes()
    extra = (embedding.tokens, int(embedding.truncated))
    return (space_id, key, vector, *extra, _checksum(key, vector, *extra), now, int(now // HOUR))


def decode(found: Sequence[Row], dimensions: int) -> list[Embedding | None]:
    """What rows found by `get` hold, read-only rows of one matrix; None for one that is not what was stored."""
    size = 4 * dimensions
    sound = [_is_sound(row, size) for row in found]
    blobs = b"".join([row[2] for row, is_sound in zip(found, sound, strict=True) if is_sound])
    # All at once: a conversion of its own for each vector costs as much as reading its row.
    vectors = iter(np.frombuffer(blobs, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dimensions))
    return [
        Embedding(next(vectors), row[3], bool(row[4]), cache_hit=True) if is_sound else None
        for row, is_sound in zip(found, sound, strict=True)
    ]


def _is_sound(row: Row, size: int) -> bool:
    # Damage can change a column's type as well.
    if [*map(type, row)] != _TYPES or len(row[2]) != size:
        return False
    _, key, vector, tokens, truncated, checksum, _, _ = row
    return bool(_checksum(key, vector, tokens, truncated) == checksum)


def _checksum(key: bytes, vector: bytes, tokens: int, truncated: int) -> int:
    # Over the key as well: a row that answers to another key must not pass.
    return zlib.crc32(vector, zlib.crc32(key, _begun(tokens, truncated)))


@lru_cache(4096)  # texts of a stream have few lengths
def _begun(tokens: int, truncated: int) -> int:
    return zlib.crc32(b"%d %d " % (tokens, truncated))
