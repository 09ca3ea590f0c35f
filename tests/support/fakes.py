"""Stand-ins for the outside world, one per protocol: in memory, deterministic, strict."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from typing import BinaryIO

import anyio
import anyio.lowlevel
import numpy as np

from streamer.core.events import Headers, Message, Record, TopicPartition
from streamer.core.vectors import Purpose, Space, Vector
from streamer.errors import PartitionLost
from streamer.protocols import Acknowledgement, Embedding, Rejection

SPACE = Space(provider="fake", model="hash", dimensions=8)


def vector_of(text: str, dimensions: int = 8) -> Vector:
    """The one right unit vector of a text: whoever gets another one was handed somebody else's."""
    seed = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


def record(
    tp: TopicPartition, offset: int, value: bytes | None, key: bytes | None = None, headers: Headers = ()
) -> Record:
    return Record(tp, offset, key, value, 1_700_000_000_000 + offset, headers)


class MemorySource:
    """Partitions as lists; `commits` remembers every commit in order."""

    def __init__(self, log: Mapping[TopicPartition, Sequence[Record]], max_records: int = 50) -> None:
        self.log = log
        self.max_records = max_records
        self.position = dict.fromkeys(log, 0)
        self.committed: dict[TopicPartition, int] = {}
        self.commits: list[dict[TopicPartition, int]] = []
        self.polled: list[frozenset[TopicPartition]] = []
        self.lost: set[TopicPartition] = set()
        self.on_poll: Callable[[], None] = lambda: None

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        assert tps
        self.polled.append(frozenset(tps))
        self.on_poll()
        await anyio.lowlevel.checkpoint()
        found: list[Record] = []
        for tp in tps:
            start = self.position[tp]
            chunk = self.log[tp][start : start + self.max_records]
            self.position[tp] = start + len(chunk)
            found += chunk
        if not found:
            await anyio.sleep(min(timeout, 0.002))
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.lost & set(offsets):
            raise PartitionLost("somebody else's now")
        await anyio.lowlevel.checkpoint()
        self.commits.append(dict(offsets))
        self.committed.update(offsets)

    def rewind(self) -> None:
        """What a rebalance does: positions go back to what was committed."""
        for tp in self.position:
            offset = self.committed.get(tp, 0)
            self.position[tp] = next((i for i, r in enumerate(self.log[tp]) if r.offset >= offset), len(self.log[tp]))


class MemorySink:
    """Keeps messages in the order sent; `acknowledged` holds those whose ack was awaited to its end."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.sent: list[Message] = []
        self.acknowledged: list[Message] = []
        self.failure: Exception | None = None
        self._rng = rng

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        await anyio.lowlevel.checkpoint()
        self.sent += messages
        return partial(self._acknowledge, list(messages))

    async def _acknowledge(self, messages: list[Message]) -> None:
        if self._rng:
            await anyio.sleep(self._rng.random() * 0.002)
        if self.failure:
            raise self.failure
        self.acknowledged += messages


class HashEmbedder:
    """Each text's `vector_of`; counts how often it saw each text. Texts that contain "reject" have no vector."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.space = SPACE
        self.seen: Counter[str] = Counter()
        self.calls = 0
        self.gate: anyio.Event | None = None
        self.failure: Exception | None = None
        self.in_flight = self.most_in_flight = 0
        self._rng = rng

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        self.calls += 1
        self.seen.update(texts)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            if self.gate:
                await self.gate.wait()
            await anyio.sleep(self._rng.random() * 0.005 if self._rng else 0)
            if self.failure:
                raise self.failure
        finally:
            self.in_flight -= 1
        return [
            Rejection("rejected", "the provider refuses it", attempts=3)
            if "reject" in text
            else Embedding(vector_of(text), tokens=len(text.split()), truncated=False)
            for text in texts
        ]


class MemoryFile:
    """A ReplaceableFile. While `open_gate` is not set, writing waits before each piece."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.error: OSError | None = None
        self.open_gate = anyio.Event()
        self.open_gate.set()
        self.attempts = self.replaced = 0

    def __str__(self) -> str:
        return "a file in memory"

    def open(self) -> BinaryIO:
        if self.content is None:
            raise FileNotFoundError
        return BytesIO(self.content)

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        self.attempts += 1
        pieces: list[bytes] = []

        async def write(piece: bytes) -> None:
            await self.open_gate.wait()
            if self.error:
                raise self.error
            pieces.append(piece)

        yield write
        self.content = b"".join(pieces)
        self.replaced += 1


class MemoryCache:
    def __init__(self) -> None:
        self.entries: dict[bytes, Embedding] = {}
        self.reads = self.writes = 0

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
        self.writes += 1
        await anyio.lowlevel.checkpoint()
        self.entries.update(entries)
