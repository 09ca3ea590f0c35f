"""The side consumer whose vectors lie in a store: what is different, and what happens while the store is away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.errors import Unreachable
from streamer.http.api import create_api
from streamer.indexer import state
from streamer.indexer.snapshots.format import SnapshotReader
from streamer.indexer.snapshots.store import Snapshots
from streamer.stores import StoredUpTo
from tests.support import indexing
from tests.support.fakes import MemoryFile
from tests.support.indexing import DIFFERENT, P0, P1, SETTINGS, Running, Topic, running
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def in_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "new_store", MemoryStore)
    monkeypatch.setattr(state, "_SAVED_EVERY", 0.0)


def store_of(topic: Topic) -> MemoryStore:
    assert isinstance(topic.store, MemoryStore)
    return topic.store


def test_each_difference_is_named_as_a_test() -> None:
    sources = [Path(__file__).with_name("test_indexer.py"), Path(__file__).parent / "verdicts" / "test_judge.py"]
    held = "".join(source.read_text() for source in sources)
    assert [name for name in DIFFERENT if f"def {name}(" not in held] == []


async def test_a_restart_reads_nothing_that_was_judged_before() -> None:
    """Unlike test_stopped_before_older_events_are_read_it_judges_nothing and test_only_so_much_is_held_back: what is
    older is at hand, so a partition that stalls holds up no other."""
    topic = Topic(P0, P1)
    topic.append("early", 0, tp=P1)
    async with running(topic) as this:
        await this.settle()
    for i in range(9):
        topic.append(f"late-{i}", 3, tp=P0)
    this = Running(topic, replace(SETTINGS, max_held_back=4))
    this.changelog.stalled = {P1}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        assert this.indexer.statistics().restore_records == 9
        this.indexer.stop()
    assert topic.judged() == [("early", None), *((f"late-{i}", "early") for i in range(9))]


@pytest.mark.slow
async def test_more_than_the_capacity_is_kept_for_a_while_and_never_less() -> None:
    topic = Topic()
    for i in range(300):
        topic.append(f"id-{i}", i)
    async with running(topic, replace(SETTINGS, capacity=128)) as this:
        await this.settle()
    assert 126 <= len(store_of(topic).events) <= 128 + 4
    assert {f"id-{i}" for i in range(300 - 126, 300)} <= store_of(topic).events.keys()


async def test_judging_waits_for_a_store_that_is_away_and_searches_do_not() -> None:
    topic = Topic()
    topic.append("a", 0)
    async with running(topic) as this:
        await this.settle()
        store_of(topic).is_away = True
        api = create_api(this.indexer, None)
        topic.append("b", 3)
        with capture_logs() as logs:
            await this.until(lambda: this.indexer.waiting() is not None)
            waiting = this.indexer.waiting()
            assert waiting is not None
            assert (waiting.reason, waiting.text) == ("index", "the store is away")
            with pytest.raises(Unreachable):
                await this.indexer.search(np.array([1, 0], np.float32), 1)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://localhost") as client:
                answers = [
                    await client.post("/v1/search", json={"vector": [1.0, 0.0]}),
                    await client.get("/v1/vectors/nobody"),
                ]
                ready = await client.get("/readyz")
            assert [answer.status_code for answer in answers] == [503, 503]
            assert answers[0].json() == {"error": "the index does not answer: the store is away"}
            assert ready.status_code == 503
            assert (topic.judged(), topic.committed) == ([("a", None)], {P0: 1})
            store_of(topic).is_away = False
            await this.settle()
        assert this.indexer.ready() is None
        assert this.indexer.statistics().store_failures_total > 0
    assert topic.judged() == [("a", None), ("b", "a")]
    assert [line["event"] for line in logs if "vector store" in line["event"]] == [
        "the vector store does not answer; judging waits",
        "the vector store answers again",
    ]


async def test_a_stop_does_not_wait_for_a_store_that_is_away() -> None:
    topic = Topic()
    topic.append("a", 0)
    file = MemoryFile()
    this = Running(topic, snapshots=Snapshots(file, {}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        store_of(topic).is_away = True
        topic.append("b", 3)
        await this.until(lambda: this.indexer.waiting() is not None)
        this.indexer.stop()
    assert this.indexer.ready() == "stopped"
    assert file.content is None, "it was in the middle of a batch"
    store_of(topic).is_away = False
    async with running(topic) as again:
        await again.settle()
    assert topic.judged() == [("a", None), ("b", "a")]


async def test_a_stop_while_it_has_never_answered() -> None:
    topic = Topic()
    topic.append("a", 0)
    store_of(topic).is_away = True
    this = Running(topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: this.indexer._state.patience.problem is not None)
        this.indexer.stop()
    assert (topic.judged(), topic.committed) == ([], {})


async def test_a_store_that_was_lost_is_filled_from_the_topic() -> None:
    topic = Topic(P0, P1)
    for i in range(6):
        topic.append(f"id-{i}", i * 60, tp=(P0, P1)[i % 2])
    topic.append("id-3", None, tp=P1)
    async with running(topic) as this:
        await this.settle()
    before = set(store_of(topic).events)
    topic.store = MemoryStore()
    topic.append("copy", 61, tp=P0)
    async with running(topic) as this:
        await this.settle()
        assert this.indexer.statistics().restore_records == 8
    assert set(store_of(topic).events) == before | {"copy"}
    assert topic.judged()[6:] == [("copy", "id-1")]
    assert not store_of(topic).events["id-0"].is_judged
    assert store_of(topic).saved == {0: StoredUpTo(4, 7), 1: StoredUpTo(4, 7)}


async def test_what_was_written_but_not_committed_is_written_again_and_judged_again() -> None:
    topic = Topic()
    for i in range(4):
        topic.append(f"id-{i}", i * 90)
    crashed = Running(topic)
    crashed.sink.broker_answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crashed.indexer.run)
        await crashed.until(lambda: len(topic.verdicts) == 4)
        tasks.cancel_scope.cancel()
    assert len(store_of(topic).events) == 4
    assert topic.committed == {}
    async with running(topic) as this:
        await this.settle()
    assert topic.judged() == 2 * [(f"id-{i}", None) for i in range(4)]
    assert len(store_of(topic).events) == 4


async def test_a_snapshot_holds_what_was_learned_and_no_vectors() -> None:
    topic, file = Topic(), MemoryFile()
    for i in range(40):
        topic.append(f"id-{i}", i * 9)
    async with running(topic, snapshots=Snapshots(file, {})) as this:
        await this.settle()
        learned = this.indexer._state.judge.state()[0]
    with file.open() as opened:
        assert SnapshotReader(opened.read, len(file.content or b"")).header.vectors == 0
    async with running(topic, snapshots=Snapshots(file, {})) as this:
        await this.catch_up()
        statistics = this.indexer.statistics()
        assert statistics.snapshot is not None
        assert (statistics.snapshot.loaded, statistics.vectors, statistics.restore_records) == (True, 40, 0)
        assert this.indexer._state.judge.state()[0] == learned


async def test_without_a_snapshot_it_learns_from_the_latest_events_of_the_store() -> None:
    topic = Topic()
    for i in range(40):
        topic.append(f"id-{i}", i * 9)
    async with running(topic) as this:
        await this.settle()
    async with running(topic) as this:
        await this.catch_up()
        topic.append("new", 4)
        await this.settle()
        assert this.indexer._state.judge.arrived == 41
        assert len(this.indexer._state.judge.state()[0]["anomalies"]["references"][0]["scores"]) >= 20
