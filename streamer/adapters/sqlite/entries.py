"""The entries of a space in a cache file: statements, and what rows hold. Pure: no connection, no clock.

A text is found by its place, the first eight bytes of its key as an integer. An index of places has half the pages of
an index of keys, and SQLite compares integers fastest. Each row holds the whole key, so that a text is never answered
with the vector of another one at the same place. Two such texts displace each other: among ten million texts there is
a pair in about one file of 400,000.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from operator import add, eq
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
        (checksum,) = self._checksums([key], [vector], [extra[0]], [extra[1]])
        return (self._space_id, key, vector, *extra, checksum, now, int(now // HOUR), self._sought(key))

    def decode(self, found: Sequence[Row], dimensions: int) -> Sequence[Embedding | None]:
        """What found rows hold, read-only rows of one matrix; None for one that is not what was stored."""
        if not found:
            return []
        size = 4 * dimensions
        if self._are_sound(found, size):  # nearly always
            return self._embeddings(found, dimensions)
        sound = [self._are_sound([row], size) for row in found]
        embeddings = iter(self._embeddings([*compress(found, sound)], dimensions))
        return [next(embeddings) if is_sound else None for is_sound in sound]

    @staticmethod
    def _embeddings(found: Sequence[Row], dimensions: int) -> list[Embedding]:
        # All at once: a conversion of its own for each vector costs as much as reading its row.
        blobs = b"".join([row[2] for row in found])
        vectors = np.frombuffer(blobs, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dimensions)
        return [
            Embedding(vector, tokens, truncated != 0, True)
            for vector, (_, _, _, tokens, truncated, _, _, _) in zip(vectors, found, strict=True)
        ]

    def _are_sound(self, found: Sequence[Row], size: int) -> bool:
        """Whether all of these rows hold what was stored."""
        columns = [*zip(*found, strict=True)]
        # Damage can change a column's type as well.
        if any(set(map(type, column)) != {kind} for column, kind in zip(columns, _TYPES, strict=True)):
            return False
        _, keys, vectors, tokens, truncated, checksums, _, _ = columns
        if set(map(len, vectors)) != {size}:
            return False
        return all(map(eq, self._checksums(keys, vectors, tokens, truncated), checksums))

    @staticmethod
    def _sought(key: bytes) -> Any:
        """What the index holds of a key."""
        return int.from_bytes(key[:8], "little", signed=True)

    @staticmethod
    def _checksums(
        keys: Iterable[bytes], vectors: Iterable[bytes], tokens: Iterable[int], truncated: Iterable[int]
    ) -> Iterable[int]:
        # Over the key as well: a row that answers to another key must not pass.
        return map(google_crc32c.extend, map(_begun, tokens, truncated), map(add, keys, vectors))


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
    def _checksums(
        keys: Iterable[bytes], vectors: Iterable[bytes], tokens: Iterable[int], truncated: Iterable[int]
    ) -> Iterable[int]:
        begun = (zlib.crc32(b"%d %d " % extra) for extra in zip(tokens, truncated, strict=True))
        return map(zlib.crc32, vectors, map(zlib.crc32, keys, begun))


VERSIONS: Mapping[int, type[Entries]] = {1: EarlierEntries, VERSION: Entries}


@lru_cache(4096)  # texts of a stream have few lengths
def _begun(tokens: int, truncated: int) -> int:
    """The checksum of what comes before key and vector."""
    begun: int = google_crc32c.value(b"%d %d " % (tokens, truncated))
    return begun
