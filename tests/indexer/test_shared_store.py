"""Several indexers on one store: each judges its partitions, against what all of them have written."""

from __future__ import annotations

import anyio
import pytest

from streamer.core.events import TopicPartition
from streamer.indexer import state
from streamer.indexer.snapshots.store import Snapshots
from tests.support import indexing
from tests.support.fakes import MemoryFile
from tests.support.indexing import P0, P1, Running, Topic
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def in_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "new_store", MemoryStore)
    monkeypatch.setattr(state, "_SAVED_EVERY", 0.0)


def member(topic: Topic, *tps: TopicPartition, snapshots: Snapshots | None = None) -> Running:
    this = Running(topic, snapshots=snapshots)
    this.changelog._positions = dict.fromkeys(tps, 0)
    return this


async def test_copies_are_found_among_the_events_of_all() -> None:
    topic = Topic(P0, P1)
    one, other = member(topic, P0), member(topic, P1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.indexer.run)
        tasks.start_soon(other.indexer.run)
        topic.append("a", 0, tp=P0)
        await one.until(lambda: topic.committed.get(P0) == 1)
        topic.append("b", 3, tp=P1)
        await one.until(lambda: topic.committed.get(P1) == 1)
        topic.append("c", 4, tp=P0)
        await one.until(lambda: topic.committed.get(P0) == 2)
        one.indexer.stop()
        other.indexer.stop()
    assert topic.judged() == [("a", None), ("b", "a"), ("c", "a")]


async def test_partitions_change_hands_while_events_come() -> None:
    """Nothing is judged twice, nothing is left out, and the new owner knows what the old one has judged."""
    topic = Topic(P0, P1)
    one, other = member(topic, P0, P1), member(topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.indexer.run)
        tasks.start_soon(other.indexer.run)
        for i in range(40):
            topic.append(f"id-{i}", i * 9, tp=(P0, P1)[i % 2])
            if i == 20:
                one.changelog.next_partitions = [P0]
                await one.until(lambda: one.changelog.changes == 1)
                other.changelog.next_partitions = [P1]
        await one.settle()
        await other.until(lambda: other.changelog.changes == 1)
        topic.append("id-0", 180, tp=P0)
        topic.append("copy", 181, tp=P1)
        await one.settle()
        for this in (one, other):
            this.indexer.stop()
    ids = [id for id, _ in topic.judged()]
    assert sorted(ids) == sorted([*(f"id-{i}" for i in range(40)), "id-0", "copy"])
    assert set(one.indexer._state.judge.index.ids(99)) & {"id-21", "id-39"} == set()
    assert one.indexer.statistics().records_total < 42


async def test_after_a_kill_the_other_one_goes_on_and_repeats_what_was_not_committed() -> None:
    topic = Topic(P0, P1)
    one, killed = member(topic, P0), member(topic, P1)
    killed.sink.broker_answers = anyio.Event()
    for i in range(6):
        topic.append(f"id-{i}", i * 60, tp=(P0, P1)[i % 2])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.indexer.run)
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(killed.indexer.run)
            await one.until(lambda: len(topic.verdicts) == 6)
            doomed.cancel_scope.cancel()
        assert P1 not in topic.committed
        one.changelog.next_partitions = [P0, P1]
        await one.settle()
        one.indexer.stop()
    assert sorted(id for id, _ in topic.judged()) == sorted([*(f"id-{i}" for i in range(6)), "id-1", "id-3", "id-5"])
    assert isinstance(topic.store, MemoryStore)
    assert len(topic.store.events) == 6


async def test_more_indexers_than_partitions_answer_searches_all_the_same() -> None:
    topic = Topic(P0)
    busy, idle = member(topic, P0), member(topic)
    topic.append("a", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy.indexer.run)
        tasks.start_soon(idle.indexer.run)
        await busy.settle()
        await idle.catch_up()
        assert await idle.indexer.get("a") is not None
        for this in (busy, idle):
            this.indexer.stop()


async def test_what_was_learned_is_kept_whichever_partitions_one_has() -> None:
    topic, file = Topic(P0, P1), MemoryFile()
    for i in range(40):
        topic.append(f"id-{i}", i * 9, tp=(P0, P1)[i % 2])
    first = member(topic, P0, P1, snapshots=Snapshots(file, {}, shared=True))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.indexer.run)
        await first.settle()
        first.indexer.stop()
    second = member(topic, P1, snapshots=Snapshots(file, {}, shared=True))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.indexer.run)
        await second.catch_up()
        snapshot = second.indexer.statistics().snapshot
        second.indexer.stop()
    assert snapshot is not None
    assert snapshot.loaded
