"""An indexer with its surroundings in memory: the topic, the changelog that reads it, the sink for verdicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial

import anyio
import anyio.lowlevel
import numpy as np
import orjson

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vectors import Space
from streamer.indexer.distant.index import DistantIndex
from streamer.indexer.distant.overlay import Overlay, sourced_payload
from streamer.indexer.distant.reader import once
from streamer.indexer.event_index import EventIndex
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.protocols import Acknowledgement
from streamer.stores import VectorStore
from streamer.telemetry.tracing import ConsumerTracing

SPACE = Space(provider="p", model="m", dimensions=2)
OTHER = Space(provider="p", model="other", dimensions=2)
SETTINGS = IndexerSettings(capacity=1000, batch_events=4, poll_timeout=0.01, commit_interval=0.0)
P0, P1 = TopicPartition("vectors", 0), TopicPartition("vectors", 1)


# What an index in a store does otherwise, and why: the tests of the same names are for memory alone, and
# test_distant_indexer.py shows what happens instead.
DIFFERENT = {
    "test_stopped_before_older_events_are_read_it_judges_nothing": "a restart reads nothing that was judged before",
    "test_only_so_much_is_held_back": "after a restart no older events are read, for which newer ones would wait",
    "test_what_is_known_of_forgotten_events_is_dropped": "groups are kept with their events, which leave in steps",
}
IN_MEMORY = 8  # of the latest events, so that most of a test's are in the store alone


def new_store(space: Space = SPACE) -> VectorStore | None:
    """Where the vectors of a new topic or judge are kept; None for memory. Tests replace it."""
    return None


def new_judge(policy: VerdictPolicy, dimensions: int = 2, capacity: int = 2000) -> Judge:
    """One whose vectors are where `new_store` says."""
    store = new_store(Space(provider="p", model="m", dimensions=dimensions))
    if store is None:
        return Judge(VectorIndex(dimensions, capacity), policy)
    index = DistantIndex(dimensions, capacity, store, once, nullcontext(), Overlay(dimensions, IN_MEMORY))
    return Judge(index, policy, index.groups, sourced_payload)


def size_of(index: EventIndex) -> int:
    """How many events it remembers now."""
    if isinstance(index, DistantIndex):
        index.flush()
        index.recount()
    return len(index)


class Topic:
    """What outlives an indexer: the vector topic, the verdicts published, the offsets committed, and a `store`."""

    def __init__(self, *tps: TopicPartition) -> None:
        self.logs: dict[TopicPartition, list[Record]] = {tp: [] for tp in tps or (P0,)}
        self.ends: dict[TopicPartition, int] = dict.fromkeys(self.logs, 0)
        self.committed: dict[TopicPartition, int] = {}
        self.verdicts: list[Message] = []
        self.store = new_store()

    def append(
        self,
        id: str,
        degrees: float | None,
        *,
        tp: TopicPartition = P0,
        space: Space = SPACE,
        text: str = "",
        **metadata: object,
    ) -> None:
        """An event at an angle, None for a tombstone."""
        angle = np.radians(degrees or 0)
        value = None if degrees is None else np.array([np.cos(angle), np.sin(angle)], "<f4").tobytes()
        headers = (
            ("content-type", b"application/octet-stream"),
            ("streamer-space", space.id.encode()),
            ("streamer-model", space.model.encode()),
            ("streamer-dimensions", b"2"),
            *((("streamer-text", text.encode()),) if text else ()),
            *((("streamer-metadata", orjson.dumps(metadata)),) if metadata else ()),
        )
        self.logs[tp].append(Record(tp, self.ends[tp], id.encode(), value, 0, headers))
        self.ends[tp] += 1

    def judged(self) -> list[tuple[str, str | None]]:
        """(id, duplicate_of) of every verdict published, in order."""
        documents = [orjson.loads(message.value or b"") for message in self.verdicts]
        return [(document["id"], document["duplicate_of"]) for document in documents]


class MemoryChangelog:
    """Reads the first partition to its end, then the next: as out of step as a broker may be."""

    def __init__(self, topic: Topic, *, per_poll: int = 3) -> None:
        self.topic = topic
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.poll_error: Exception | None = None
        self.commit_errors: list[Exception] = []
        self.idle_polls = 0
        self.cancelled_polls = 0
        self.stalled: set[TopicPartition] = set()
        self.next_partitions: Sequence[TopicPartition] | None = None  # once the group has decided so
        self.changes = 0
        self._per_poll = per_poll
        self._rests = False
        self._positions = dict.fromkeys(topic.logs, 0)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        return {tp: end for tp, end in self.topic.ends.items() if tp in self._positions}

    async def committed(self) -> Mapping[TopicPartition, int]:
        return {tp: offset for tp, offset in self.topic.committed.items() if tp in self._positions}

    @property
    def is_changing(self) -> bool:
        return self.next_partitions is not None

    async def change(self) -> None:
        assert self.next_partitions is not None
        self._positions = dict.fromkeys(self.next_partitions, 0)
        self.next_partitions, self.changes = None, self.changes + 1

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._positions)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._positions.update(offsets)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._rests = True
        try:
            yield
        finally:
            self._rests = False

    async def poll(self, timeout: float) -> Sequence[Record]:
        assert not self._rests
        if self.poll_error is not None:
            raise self.poll_error
        for tp, log in self.topic.logs.items():
            if tp in self.stalled or tp not in self._positions:
                continue
            records = [record for record in log if record.offset >= self._positions[tp]][: self._per_poll]
            if records:
                self._positions[tp] = records[-1].offset + 1
                return records
            self._positions[tp] = self.topic.ends[tp]
        self.idle_polls += 1
        try:
            await anyio.sleep(timeout)
        except anyio.get_cancelled_exc_class():
            self.cancelled_polls += 1
            raise
        return []

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        self.commits.append(dict(offsets))
        self.topic.committed |= offsets


class MemorySink:
    """Takes verdicts at once and acknowledges them when `broker_answers`."""

    def __init__(self, topic: Topic) -> None:
        self.broker_answers = anyio.Event()
        self.broker_answers.set()
        self.error: Exception | None = None
        self.batches = 0
        self._topic = topic

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        self._topic.verdicts += messages
        self.batches += 1
        return partial(self._acknowledge, self.broker_answers)

    async def _acknowledge(self, answered: anyio.Event) -> None:
        await answered.wait()
        if self.error is not None:
            raise self.error


class Running:
    """An indexer with its surroundings."""

    def __init__(
        self,
        topic: Topic,
        settings: IndexerSettings = SETTINGS,
        snapshots: Snapshots | None = None,
        tracing: ConsumerTracing | None = None,
        space: Space = SPACE,
        per_poll: int = 3,
    ) -> None:
        self.topic = topic
        self.changelog = MemoryChangelog(topic, per_poll=per_poll)
        self.sink = MemorySink(topic)
        self.indexer = Indexer(self.changelog, self.sink, space, settings, snapshots, tracing, topic.store)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(60):  # coverage on a loaded machine
            while not condition():
                await anyio.lowlevel.checkpoint()

    async def catch_up(self) -> None:
        """Until everything that the topic held at the start has been read."""
        await self.until(lambda: self.indexer.ready() is None)

    async def settle(self) -> None:
        """Until everything in the topic has been read, judged and committed."""
        ends = {tp: end for tp, end in self.topic.ends.items() if end}
        await self.until(lambda: self.topic.committed == ends)


@asynccontextmanager
async def running(
    topic: Topic, settings: IndexerSettings = SETTINGS, snapshots: Snapshots | None = None
) -> AsyncIterator[Running]:
    this = Running(topic, settings, snapshots)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        yield this
        this.indexer.stop()
    assert this.changelog.cancelled_polls == 0
    assert this.indexer.ready() == "stopped"
