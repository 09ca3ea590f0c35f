"""Entries for cache tests that tell by themselves whether they were given to the right text."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.vectors import Space
from streamer.protocols import Embedding, VectorCache

SPACE = Space(provider="fake", model="fake-1", dimensions=96)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def key_of(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=32).digest()


@functools.lru_cache(20_000)
def embedding_of(key: bytes, dimensions: int = 96) -> Embedding:
    """The one embedding that belongs to a key: a vector of another text is recognised as wrong."""
    vector = np.random.default_rng(list(key)).standard_normal(dimensions, dtype=np.float32)
    vector.flags.writeable = False  # it is everybody's
    return Embedding(vector, tokens=key[0], truncated=key[1] % 2 == 0)


def entries(numbers: Iterable[int]) -> dict[bytes, Embedding]:
    return {key: embedding_of(key) for key in map(key_of, numbers)}


def found_numbers(found: Mapping[bytes, Embedding], numbers: Iterable[int]) -> list[int]:
    """Which of these numbers were found; fails when one of them was found with what belongs to another."""
    hits = []
    for number in numbers:
        key = key_of(number)
        if hit := found.get(key):
            want = embedding_of(key)
            assert np.array_equal(hit.vector, want.vector)
            assert hit.vector.dtype == np.float32
            assert (hit.tokens, hit.truncated, hit.cache_hit) == (want.tokens, want.truncated, True)
            hits.append(number)
    assert len(hits) == len(found)
    return hits


async def find(cache: VectorCache, numbers: Iterable[int]) -> list[int]:
    numbers = list(numbers)
    return found_numbers(await cache.get_many([key_of(number) for number in numbers]), numbers)


def opened(path: Path, space: Space = SPACE, **options: Any) -> AbstractAsyncContextManager[SqliteVectorCache]:
    return SqliteVectorCache.open(
        path, space, **{"ttl_seconds": None, "max_bytes": None, "retry_seconds": 0.0} | options
    )


def no_thread_is_left() -> bool:
    """Whether the thread of every connection has ended, or is about to."""
    threads = [thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]
    for thread in threads:
        thread.join(10)
    return not any(thread.is_alive() for thread in threads)
