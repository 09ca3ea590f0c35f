"""For the tests of your own programs: embeddings, events and Kafka without a model, a network or a broker.

Everything here is deterministic and in memory, and nothing depends on a test framework.

- Embedding: `HashProvider` is a Provider for `EmbeddingService(provider=HashProvider())`; `vector_of` tells the vector
  that a text will get.
- Consuming: `vector_event` and `verdict` make events; `MemoryConsumer` hands them out as VectorConsumer and
  VerdictConsumer do; `record_of` makes the Kafka record that carries one.
- The flow's protocols (`streamer.protocols`): `HashEmbedder`, `MemoryCache`, `MemorySource`, `MemorySink`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel
import numpy as np
import orjson

from streamer.core.events import Headers, Message, Record, TopicPartition
from streamer.core.vector_events import Deletion, VectorEvent
from streamer.core.vectors import Purpose, Space, Vector
from streamer.core.verdicts import Verdict, VerdictKind, encode_verdict
from streamer.errors import PartitionLost, RejectedError
from streamer.protocols import Acknowledgement, Answer, Embedding, Rejection

__all__ = ["SPACE", "HashEmbedder", "HashProvider", "MemoryCache", "MemoryConsumer", "MemorySink", "MemorySource",
           "record", "record_of", "vector_event", "vector_of", "verdict"]  # fmt: skip

T = TypeVar("T")

SPACE = Space(provider="fake", model="hash", dimensions=8)
TIMESTAMP = 1_700_000_000_000  # of the record at offset 0, in milliseconds since the epoch; the next is 1 ms later


def vector_of(text: str, dimensions: int = 8) -> Vector:
    """The unit vector of a text, float32 of shape (dimensions,): a hash of the text, so that a vector that was given
    to the wrong text is noticed. Similar texts do not get similar vectors.
    """
    seed = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


def vector_event(text: str, *, id: str | None = None, vector: Vector | None = None, **fields: Any) -> VectorEvent:
    """The vector event of a text. By default its vector is `vector_of(text)` and its id the text itself; `fields`: any
    other field of VectorEvent, such as `metadata`.
    """
    made: dict[str, Any] = {"space": SPACE.id, "model": SPACE.model, "text": text, "timestamp": TIMESTAMP} | fields
    return VectorEvent(id=text if id is None else id, vector=vector_of(text) if vector is None else vector, **made)


def verdict(id: str, verdict: VerdictKind = "ordinary", **fields: Any) -> Verdict:
    """The verdict on the event `id`; `fields`: any other field of Verdict, such as `duplicate_of`."""
    made: dict[str, Any] = {"similarity": None, "duplicate_of": None, "nearest": (), "space": SPACE.id, "source": None}
    return Verdict(id=id, verdict=verdict, **(made | fields))


def record(
    tp: TopicPartition, offset: int, value: bytes | None, key: bytes | None = None, headers: Headers = ()
) -> Record:
    """A Kafka record."""
    return Record(tp, offset, key, value, TIMESTAMP + offset, headers)


def record_of(event: VectorEvent | Deletion | Verdict, *, offset: int = 0) -> Record:
    """The Kafka record, in partition 0 of the topic `vectors` or `verdicts`, that carries an event as JSON."""
    if isinstance(event, Verdict):
        message = encode_verdict(event, "verdicts")
        return record(TopicPartition("verdicts", 0), offset, message.value, message.key, message.headers)
    tp, key = TopicPartition("vectors", 0), event.id.encode()
    if isinstance(event, Deletion):
        return record(tp, offset, None, key)
    names = {"streamer-space": event.space, "streamer-model": event.model, "content-type": "application/json"}
    headers = tuple((name, value.encode()) for name, value in names.items())
    return record(tp, offset, orjson.dumps(event.to_dict()), key, headers)


class MemoryConsumer(Generic[T]):
    """Stands in for a VectorConsumer or VerdictConsumer: an async context manager that iterates over given events, and
    then ends. `malformed`: as with these, 0 unless you set it.
    """

    def __init__(self, events: Iterable[T]) -> None:
        self._events = events
        self.malformed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[T]:
        for event in self._events:
            await anyio.lowlevel.checkpoint()
            yield event


class HashProvider:
    """A Provider that answers `vector_of(text)`. Texts that contain "reject" have no vector.

    `calls`: the texts of each call. `failure`: an exception that every call raises while it is set, such as
    `RateLimited("slow down", retry_after=1)`.
    """

    def __init__(self, dimensions: int = 8) -> None:
        self.space = replace(SPACE, dimensions=dimensions)
        self.calls: list[list[str]] = []
        self.failure: Exception | None = None

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:  # noqa: ARG002  # of the protocol
        """Raises `failure`, or RejectedError for a call with a text that contains "reject"."""
        self.calls.append(list(texts))
        await anyio.lowlevel.checkpoint()
        if self.failure:
            raise self.failure
        if any("reject" in text for text in texts):
            raise RejectedError("a text contains 'reject'")
        rows = [vector_of(text, self.space.dimensions) for text in texts]
        return Answer(np.array(rows, np.float32), tokens=[len(text.split()) for text in texts])

    async def aclose(self) -> None:
        """There is nothing to close."""


class HashEmbedder:
    """An Embedder that answers `vector_of(text)`. Texts that contain "reject" have no vector.

    `seen`: how often it was given each text; `calls`, `in_flight`, `most_in_flight`: how many calls there were, are
    open, and were open at once at most. While `gate` is set to an event, calls wait for that event; while `failure` is
    set to an exception, they raise it. With `rng`, calls take a random time of up to 5 ms.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.space = SPACE
        self.seen: Counter[str] = Counter()
        self.calls = 0
        self.gate: anyio.Event | None = None
        self.failure: Exception | None = None
        self.in_flight = self.most_in_flight = 0
        self._rng = rng

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:  # noqa: ARG002
        """An outcome for each text; both purposes give the same vector."""
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


class MemoryCache:
    """A VectorCache. `entries`: what it holds; `reads`, `writes`: the calls of each kind."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Embedding] = {}
        self.reads = self.writes = 0

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        """The entries of those keys that it holds."""
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
        """Add entries, or replace them."""
        self.writes += 1
        await anyio.lowlevel.checkpoint()
        self.entries.update(entries)


class MemorySource:
    """A Source of the records in `log`, at most `max_records` a partition in one poll.

    `polled`: the partitions of each poll; `commits`: every commit in order, and `committed` their sum. A commit that
    names a partition in `lost` raises PartitionLost. `on_poll` is called at the start of each poll.
    """

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
        """The next records of these partitions, of which there must be one at least."""
        if not tps:
            raise ValueError("a poll must name a partition")
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
        """Remember the next offsets to read. Raises PartitionLost for a partition in `lost`."""
        if self.lost & set(offsets):
            raise PartitionLost("another member owns the partition now")
        await anyio.lowlevel.checkpoint()
        self.commits.append(dict(offsets))
        self.committed.update(offsets)

    def rewind(self) -> None:
        """Read on from the committed offsets, as after a rebalance."""
        for tp in self.position:
            offset = self.committed.get(tp, 0)
            self.position[tp] = next((i for i, r in enumerate(self.log[tp]) if r.offset >= offset), len(self.log[tp]))


class MemorySink:
    """A Sink. `sent`: the messages in order; `acknowledged`: those whose acknowledgement was awaited.

    While `failure` is set to an exception, acknowledgements raise it. With `rng`, they take a random time, up to 2 ms.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.sent: list[Message] = []
        self.acknowledged: list[Message] = []
        self.failure: Exception | None = None
        self._rng = rng

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        """Take the messages; call and await the result for their acknowledgement."""
        await anyio.lowlevel.checkpoint()
        self.sent += messages
        return partial(self._acknowledge, list(messages))

    async def _acknowledge(self, messages: list[Message]) -> None:
        if self._rng:
            await anyio.sleep(self._rng.random() * 0.002)
        if self.failure:
            raise self.failure
        self.acknowledged += messages
