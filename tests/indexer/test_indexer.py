"""The side consumer against a topic in memory: restore, follow, restart, and what happens when a part fails."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import numpy as np
import orjson
import pytest
from structlog.testing import capture_logs

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vectors import Matrix, Space
from streamer.core.verdicts import Match
from streamer.errors import RetriableError
from streamer.indexer.index.payloads import Scalar
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.indexer import Indexer, IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.verdicts.anomalies import AnomalyScorer, Comparison
from streamer.protocols import Acknowledgement

pytestmark = pytest.mark.anyio

SPACE = Space(provider="p", model="m", dimensions=2)
OTHER = Space(provider="p", model="other", dimensions=2)
SETTINGS = IndexerSettings(capacity=1000, batch_events=4, poll_timeout=0.01, commit_interval=0.0)
P0, P1 = TopicPartition("vectors", 0), TopicPartition("vectors", 1)


class Topic:
    """What outlives an indexer: the vector topic, the verdicts published, the offsets committed."""

    def __init__(self, *tps: TopicPartition) -> None:
        self.logs: dict[TopicPartition, list[Record]] = {tp: [] for tp in tps or (P0,)}
        self.ends: dict[TopicPartition, int] = dict.fromkeys(self.logs, 0)
        self.committed: dict[TopicPartition, int] = {}
        self.verdicts: list[Message] = []

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
        self._per_poll = per_poll
        self._rests = False
        self._positions = dict.fromkeys(topic.logs, 0)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        return dict(self.topic.ends)

    async def committed(self) -> Mapping[TopicPartition, int]:
        return dict(self.topic.committed)

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
            if tp in self.stalled:
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

    def __init__(self, topic: Topic, settings: IndexerSettings = SETTINGS, snapshots: Snapshots | None = None) -> None:
        self.topic = topic
        self.changelog = MemoryChangelog(topic)
        self.sink = MemorySink(topic)
        self.indexer = Indexer(self.changelog, self.sink, SPACE, settings, snapshots)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
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


async def test_judges_from_the_beginning_then_follows() -> None:
    topic = Topic()
    for i, degrees in enumerate([0, 90, 5, 180, 95]):
        topic.append(f"id-{i}", degrees)
    async with running(topic) as this:
        await this.catch_up()
        await this.settle()
        topic.append("id-5", 3)
        topic.append("id-1", None)
        topic.append("id-6", 92)
        await this.settle()
    assert topic.judged() == [
        ("id-0", None),
        ("id-1", None),
        ("id-2", "id-0"),
        ("id-3", None),
        ("id-4", "id-1"),
        ("id-5", "id-0"),
        ("id-6", "id-1"),
    ]
    assert {message.topic for message in topic.verdicts} == {"verdicts"}
    assert topic.committed == {P0: 8}


async def test_a_restart_neither_repeats_nor_omits_verdicts() -> None:
    topic = Topic()
    for i in range(10):
        topic.append(f"id-{i}", i * 10)
    async with running(topic) as first:
        await first.settle()
    topic.append("new", 91)
    async with running(topic) as second:
        await second.settle()
        assert second.indexer.statistics().vectors == 11
        assert second.indexer.statistics().verdicts_total["near_duplicate"] == 1
    assert topic.judged() == [("id-0", None), *((f"id-{i}", "id-0") for i in range(1, 10)), ("new", "id-0")]


async def test_what_was_not_acknowledged_is_judged_again_after_a_crash() -> None:
    topic = Topic()
    topic.append("a", 0)
    async with running(topic) as this:
        await this.settle()
    topic.append("b", 90)
    topic.append("c", 180)
    crashed = Running(topic)
    crashed.sink.broker_answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crashed.indexer.run)
        await crashed.until(lambda: len(topic.verdicts) == 3)
        tasks.cancel_scope.cancel()
    assert topic.committed == {P0: 1}
    async with running(topic) as this:
        await this.settle()
    assert [id for id, _ in topic.judged()] == ["a", "b", "c", "b", "c"]


async def test_older_events_of_slow_partitions_are_remembered_before_anything_is_judged() -> None:
    topic = Topic(P0, P1)
    topic.append("early", 0, tp=P1)
    topic.append("other", 90, tp=P0)
    async with running(topic) as this:
        await this.settle()
    for _ in range(5):
        topic.append("late", 3, tp=P0)
    async with running(topic) as this:
        await this.settle()
    assert topic.judged()[2:] == [("late", "early")] * 5


async def test_stopped_before_older_events_are_read_it_judges_nothing() -> None:
    topic = Topic(P0, P1)
    topic.append("early", 0, tp=P1)
    async with running(topic) as this:
        await this.settle()
    topic.append("late", 3, tp=P0)
    this = Running(topic)
    this.changelog.stalled = {P1}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: this.changelog.idle_polls > 0)
        this.indexer.stop()
    assert topic.judged() == [("early", None)]


async def test_only_so_much_is_held_back() -> None:
    topic = Topic(P0, P1)
    topic.append("early", 0, tp=P1)
    async with running(topic) as this:
        await this.settle()
    for i in range(9):
        topic.append(f"late-{i}", 3, tp=P0)
    with capture_logs() as logs:
        async with running(topic, replace(SETTINGS, max_held_back=4)) as this:
            await this.settle()
    assert topic.judged()[1:] == [("late-0", None), *((f"late-{i}", "late-0") for i in range(1, 9))]
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "the partitions are too far apart to judge in order; some verdicts miss older events"
    ]


async def test_ready_only_when_caught_up() -> None:
    topic = Topic(P0, P1)
    for i in range(4):
        topic.append(f"id-{i}", i)
    topic.ends[P1] = 7  # compacted away: positions move, records do not come
    this = Running(topic)
    assert this.indexer.ready() == "not started"
    this.sink.broker_answers = anyio.Event()
    this.indexer = Indexer(this.changelog, this.sink, SPACE, replace(SETTINGS, max_unacknowledged_batches=0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: this.sink.batches == 2)
        await anyio.wait_all_tasks_blocked()
        assert this.indexer.ready() == "restoring: 4 of 11 records read"
        statistics = this.indexer.statistics()
        assert (statistics.ready, statistics.restore_records, statistics.restore_remaining) == (False, 11, 7)
        this.sink.broker_answers.set()
        await this.catch_up()
        assert this.indexer.ready() is None
        assert this.indexer.statistics().restore_remaining == 0
        this.indexer.stop()


async def test_a_topic_made_anew_is_judged_from_its_beginning() -> None:
    topic = Topic()
    topic.committed = {P0: 100}
    topic.append("a", 0)
    with capture_logs() as logs:
        async with running(topic) as this:
            await this.settle()
    assert topic.judged() == [("a", None)]
    assert ("beyond the end" in logs[0]["event"], logs[0]["partition"]) == (True, "vectors/0")


async def test_other_spaces_are_refused_by_name_once() -> None:
    topic = Topic()
    topic.append("a", 0)
    topic.append("b", 0, space=OTHER)
    topic.append("c", 0, space=OTHER)
    topic.append("bad", 0)
    topic.logs[P0][-1] = replace(topic.logs[P0][-1], value=b"\0" * 8)
    with capture_logs() as logs:
        async with running(topic) as this:
            await this.settle()
            statistics = this.indexer.statistics()
    assert topic.judged() == [("a", None)]
    assert statistics.foreign_total == {OTHER.id: 2}
    assert (statistics.records_total, statistics.malformed_total, statistics.vectors) == (4, 1, 1)
    (refusal,) = [line for line in logs if line["log_level"] == "error"]
    assert (refusal["space"], refusal["index_space"]) == (OTHER.id, SPACE.id)
    (unreadable,) = [line for line in logs if line["event"] == "record is not a vector event"]
    assert unreadable["source"] == "vectors/0/3"


async def test_search_and_get() -> None:
    topic = Topic()
    for i in range(8):
        topic.append(f"id-{i}", i * 30)
    async with running(topic) as this:
        await this.catch_up()
        query = np.array([1, 0], np.float32)
        found = await this.indexer.search(query, 3, 0.5, exclude=["id-0"])
        assert [(match.id, round(match.similarity, 3)) for match in found] == [("id-1", 0.866), ("id-2", 0.5)]
        stored = await this.indexer.get("id-0")
        assert stored is not None
        assert np.array_equal(stored, query)
        assert await this.indexer.get("nobody") is None
        assert this.indexer.statistics().searches_total == 1


async def test_commits_are_bounded_in_time_and_survive_an_unreachable_coordinator() -> None:
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic, replace(SETTINGS, commit_interval=0.02))
    this.changelog.commit_errors = [RetriableError("no coordinator")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        assert this.indexer.statistics().commit_failures_total == 1
        commits = len(this.changelog.commits)
        idle = this.changelog.idle_polls
        await this.until(lambda: this.changelog.idle_polls > idle + 10)
        assert len(this.changelog.commits) == commits  # nothing new, nothing to commit
        this.indexer.stop()
    assert len(this.changelog.commits) == commits


async def test_commits_are_renewed_before_the_broker_forgets_them() -> None:
    topic = Topic(P0, P1)
    topic.append("quiet", 0, tp=P1)
    topic.append("a", 0)
    async with running(topic, replace(SETTINGS, renewal_interval=0.02)) as this:
        await this.settle()
        topic.committed.clear()  # a week has passed
        await this.settle()


async def test_a_stop_awaits_what_is_in_flight_and_commits_it() -> None:
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic, replace(SETTINGS, commit_interval=1000.0))
    this.sink.broker_answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: len(topic.verdicts) == 1)
        this.indexer.stop()
        idle = this.changelog.idle_polls
        await anyio.wait_all_tasks_blocked()
        assert this.changelog.idle_polls <= idle + 1
        assert topic.committed == {}
        this.sink.broker_answers.set()
    assert topic.committed == {P0: 1}


async def test_a_slow_broker_holds_up_reading() -> None:
    topic = Topic()
    for i in range(400):
        topic.append(f"id-{i}", i)
    this = Running(topic, replace(SETTINGS, max_unacknowledged_batches=2))
    this.sink.broker_answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: this.sink.batches == 4)
        await anyio.wait_all_tasks_blocked()
        assert this.sink.batches == 4  # one awaited, two queued, one at the door
        assert this.indexer.statistics().unacknowledged_batches == 4
        this.sink.broker_answers.set()
        await this.settle()
        this.indexer.stop()


@pytest.mark.parametrize("culprit", ["poll", "acknowledgement", "commit"])
async def test_a_failing_part_takes_all_of_it_down(culprit: str) -> None:
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic)
    if culprit == "poll":
        this.changelog.poll_error = OSError("gone")
    elif culprit == "acknowledgement":
        this.sink.error = OSError("gone")
    else:
        this.changelog.commit_errors = [OSError("gone")]
    with anyio.fail_after(20), pytest.raises(ExceptionGroup) as caught:
        await this.indexer.run()
    assert [str(exc) for exc in caught.value.exceptions] == ["gone"]
    assert this.changelog.cancelled_polls == 0
    assert this.indexer.ready() == "stopped"


async def test_cancelling_waits_for_the_poll() -> None:
    this = Running(Topic())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.catch_up()
        await this.until(lambda: this.changelog.idle_polls > 0)
        tasks.cancel_scope.cancel()
    assert this.changelog.cancelled_polls == 0


async def test_searches_that_wait_together_share_a_product() -> None:
    topic = Topic()
    for i in range(36):
        topic.append(f"id-{i}", i * 10, color="red" if i % 2 else "blue")
    async with running(topic) as this:
        await this.settle()
        index = this.indexer._state.judge.index
        found: dict[tuple[int, str], list[str]] = {}
        calls: list[int] = []

        def search(queries: Matrix, *args: Any, **options: Any) -> list[list[Match]]:
            calls.append(len(queries))
            return VectorIndex.search(index, queries, *args, **options)

        async def ask(degrees: int, color: str = "") -> None:
            where: dict[str, Scalar] | None = {"color": color} if color else None
            angle = np.radians(degrees)
            query = np.array([np.cos(angle), np.sin(angle)], np.float32)
            matches = await this.indexer.search(query, 1, exclude=[f"id-{degrees // 10}"], where=where)
            found[degrees, color] = [match.id for match in matches]

        with patch.object(index, "search", search):
            async with anyio.create_task_group() as tasks, this.indexer._state.searches._turn:
                for degrees in range(2, 302, 10):
                    tasks.start_soon(ask, degrees)
                tasks.start_soon(ask, 42, "blue")
                tasks.start_soon(ask, 42, "green")
                await anyio.wait_all_tasks_blocked()
        assert calls == [30, 1, 1]
        assert [found[degrees, ""] for degrees in range(2, 302, 10)] == [[f"id-{i}"] for i in range(1, 31)]
        assert (found[42, "blue"], found[42, "green"]) == (["id-6"], [])


async def test_a_search_does_not_wait_for_events_that_are_being_judged() -> None:
    topic = Topic()
    topic.append("known", 0)
    async with running(topic) as this:
        await this.settle()
        judging, go_on = threading.Event(), threading.Event()
        compare = AnomalyScorer.compare

        def held_up(novelty: AnomalyScorer, vectors: Matrix) -> Comparison:
            judging.set()
            assert go_on.wait(30)
            return compare(novelty, vectors)

        with patch.object(AnomalyScorer, "compare", held_up):
            topic.append("new", 90)
            await this.until(judging.is_set)
            with anyio.fail_after(20):
                matches = await this.indexer.search(np.array([0, 1], np.float32), 2)
                vector = await this.indexer.get("new")
            go_on.set()
            await this.settle()
        assert [match.id for match in matches] == ["new", "known"]
        assert vector is not None
