"""The entries of a space in a cache file: statements, and what rows hold. Pure: no connection, no clock.

A text is found by its place, the first eight bytes of its key as an integer. An index of places has half the pages of
an index of keys, and SQLite compares integers fastest. Each row holds the whole key, so that a text is never answered
with the vector of another one at the same place. Two such texts displace each other: among ten million texts there is
a pair in about one file of 400,000.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import google_crc32c
import numpy as np

from streamer.adapters.sqlite.rows import HOUR, VERSION, Row
from streamer.protocols import Embedding

# Few sizes, so that the statement is nearly always one that was prepared before; the rest is filled with NULL.
SIZES = (8, 16, 32, 64, 128, 256, 512)
MOST_KEYS = max(SIZES)

_FIND = """SELECT id, key, vector, tokens, truncated, checksum, created, used FROM entry
    WHERE space_id = ? AND {column} IN ({places})"""
_TYPES = [int, bytes, bytes, int, int, int, float, int]  # of the columns that are found


def _statements(column: str) -> dict[int, str]:
    return {size: _FIND.format(column=column, places=",".join("?" * size)) for size in SIZES}


class Entries:
    """The entries of the space with this number in a file of the present version."""

    FIND: ClassVar[Mapping[int, str]] = _statements("place")
    PUT: ClassVar[str] = """
        INSERT INTO entry (id, space_id, key, vector, tokens, truncated, checksum, created, used, place)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (space_id, place) DO UPDATE SET key = excluded.key, vector = excluded.vector,
        tokens = excluded.tokens, truncated = excluded.truncated, checksum = excluded.checksum,
        created = excluded.created, used = excluded.used"""

    def __init__(self, space_id: int) -> None:
        self._space_id = space_id

    def find(self, keys: Sequence[bytes]) -> tuple[str, list[Any]]:
        """The statement that finds at most MOST_KEYS keys, and its parameters. It may find other keys, too."""
        size = next(size for size in SIZES if size >= len(keys))
        return self.FIND[size], [self._space_id, *map(self._sought, keys), *[None] * (size - len(keys))]

    def encode(self, key: bytes, embedding: Embedding, now: float) -> Row:
        """The parameters of PUT but for the first: a row's number, or None for the next one."""
        vector = embedding.vector.astype("<f4", copy=False).tobytes()
        extra = (embedding.tokens, int(embedding.truncated))
        checksum = self._checksum(key, vector, *extra)
        return (self._space_id, key, vector, *extra, checksum, now, int(now // HOUR), self._sought(key))

    def decode(self, found: Sequence[Row], dimensions: int) -> list[Embedding | None]:
        """What found rows hold, read-only rows of one matrix; None for one that is not what was stored."""
        size = 4 * dimensions
        sound = [self._is_sound(row, size) for row in found]
        blobs = b"".join([row[2] for row, is_sound in zip(found, sound, strict=True) if is_sound])
        # All at once: a conversion of its own for each vector costs as much as reading its row.
        vectors = iter(np.frombuffer(blobs, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dimensions))
        return [
            Embedding(next(vectors), row[3], bool(row[4]), cache_hit=True) if is_sound else None
            for row, is_sound in zip(found, sound, strict=True)
        ]

    def _is_sound(self, row: Row, size: int) -> bool:
        # Damage can change a column's type as well.
        if [*map(type, row)] != _TYPES or len(row[2]) != size:
            return False
        _, key, vector, tokens, truncated, checksum, _, _ = row
        return bool(self._checksum(key, vector, tokens, truncated) == checksum)

    @staticmethod
    def _sought(key: bytes) -> Any:
        """What the index holds of a key."""
        return int.from_bytes(key[:8], "little", signed=True)

    @staticmethod
    def _checksum(key: bytes, vector: bytes, tokens: int, truncated: int) -> int:
        # Over the key as well: a row that answers to another key must not pass.
        checksum: int = google_crc32c.extend(_begun(tokens, truncated), key + vector)
        return checksum


class EarlierEntries(Entries):
    """The same in a file of version 1, which is used as it is: its index holds keys, and zlib made its checksums."""

    FIND = _statements("key")
    PUT = """
        INSERT INTO entry (id, space_id, key, vector, tokens, truncated, checksum, created, used)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (space_id, key) DO UPDATE SET vector = excluded.vector, tokens = excluded.tokens,
        truncated = excluded.truncated, checksum = excluded.checksum,
        created = excluded.created, used = excluded.used"""

    def encode(self, key: bytes, embedding: Embedding, now: float) -> Row:
        return super().encode(key, embedding, now)[:-1]  # a row has no place

    @staticmethod
    def _sought(key: bytes) -> Any:
        return key

    @staticmethod
    def _checksum(key: bytes, vector: bytes, tokens: int, truncated: int) -> int:
        return zlib.crc32(vector, zlib.crc32(key, zlib.crc32(b"%d %d " % (tokens, truncated))))


VERSIONS: Mapping[int, type[Entries]] = {1: EarlierEntries, VERSION: Entries}


@lru_cache(4096)  # texts of a stream have few lengths
def _begun(tokens: int, truncated: int) -> int:
    """The checksum of what comes before key and vector."""
    begun: int = google_crc32c.value(b"%d %d " % (tokens, truncated))
    return begun
