"""An indexer that goes on from a snapshot: nothing lost, nothing doubled, nothing forgotten; or from the topic."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.typing import EventDict

from streamer.core.events import TopicPartition
from streamer.errors import RetriableError
from streamer.indexer.indexer import Indexer
from streamer.indexer.snapshots.store import Snapshots, SnapshotStatistics
from streamer.indexer.verdicts import anomalies, content, form
from tests.support.examples import examples
from tests.support.fakes import MemoryFile
from tests.support.indexing import P0, P1, SETTINGS, Running, Topic, running

pytestmark = pytest.mark.anyio

FACTS = {"topic": "vectors", "cluster": "c"}
HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def of(file: MemoryFile, *, interval: float = 1000.0, clock: Clock | None = None, **facts: str) -> Snapshots:
    return Snapshots(file, FACTS | facts, interval=interval, clock=clock or Clock())


async def settle(this: Running) -> None:
    """Until it has read what the topic holds, even if that was committed before."""
    await this.catch_up()
    await this.settle()


def told(this: Running) -> SnapshotStatistics:
    found = this.indexer.statistics().snapshot
    assert found is not None
    return found


def fold(topic: Topic) -> dict[str, bytes]:
    """What an index of everything that was ever in the topic holds; one partition for each id, as Kafka does it."""
    found: dict[str, bytes] = {}
    for log in topic.logs.values():
        for record in log:
            key = (record.key or b"").decode()
            found.pop(key, None)
            if record.value is not None:
                found[key] = record.value
    return found


def held(indexer: Indexer) -> dict[str, bytes]:
    view = indexer._state.judge.index.read_view()
    return dict(zip(view.ids, map(bytes, view.next_vectors(len(view.ids))), strict=True))


def events(logs: list[EventDict]) -> list[str]:
    return [line["event"] for line in logs]


async def test_after_a_clean_stop_nothing_is_read_again_and_nothing_is_forgotten(
    logs: list[EventDict],
) -> None:
    topic, file = Topic(P0, P1), MemoryFile()
    for i in range(10):
        topic.append(f"id-{i}", i * 30, tp=P1 if i % 3 else P0, text=f"text {i}", n=i)
    async with running(topic, snapshots=of(file)) as first:
        await settle(first)
        assert (told(first).loaded, told(first).ignored, told(first).age_seconds) == (False, None, None)
    assert file.replaced == 1
    topic.append("late", 31, tp=P1)
    for tp, log in topic.logs.items():
        topic.logs[tp] = log[-1:] if tp == P1 else []  # whoever reads from the beginning, misses it all
    logs.clear()
    async with running(topic, snapshots=of(file)) as second:
        await settle(second)
        statistics = second.indexer.statistics()
        assert (statistics.records_total, statistics.restore_records, statistics.vectors) == (1, 1, 11)
        assert (told(second).loaded, told(second).ignored, told(second).vectors) == (True, None, 10)
        (match,) = await second.indexer.search(second.indexer._state.judge.index.get("id-7"), 1)  # type: ignore[arg-type]
        assert (match.id, match.payload.text, match.payload.metadata) == ("id-7", "text 7", {"n": 7})
    (loaded,) = [line for line in logs if line["event"] == "snapshot loaded"]
    assert (loaded["path"], loaded["vectors"]) == ("a file in memory", 10)
    assert [id for id, _ in topic.judged()] == [*(f"id-{i}" for i in (0, 3, 6, 9, 1, 2, 4, 5, 7, 8)), "late"]
    assert topic.judged()[-1] == ("late", "id-0")


async def test_what_came_after_the_snapshot_is_read_again_and_not_judged_again() -> None:
    topic, file = Topic(), MemoryFile()
    for i in range(5):
        topic.append(f"id-{i}", i * 60)
    crashed = Running(topic, snapshots=of(file, interval=0.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crashed.indexer.run)
        await settle(crashed)
        await crashed.until(lambda: told(crashed).vectors == 5)
        file.open_gate = anyio.Event()  # the next one is not finished
        for i in range(5, 9):
            topic.append(f"id-{i}", i * 60 + 30)
        topic.append("id-0", None)
        await settle(crashed)
        tasks.cancel_scope.cancel()
    file.open_gate.set()
    topic.append("new", 331)
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
        assert (told(this).loaded, this.indexer.statistics().records_total) == (True, 6)
        assert held(this.indexer) == fold(topic)
    assert topic.judged()[-1] == ("new", "id-5")
    assert [id for id, _ in topic.judged()] == [f"id-{i}" for i in range(9)] + ["new"]


async def test_a_snapshot_is_not_in_place_before_its_verdicts_are_committed() -> None:
    topic, file = Topic(), MemoryFile()
    topic.append("a", 0)
    crashed = Running(topic, snapshots=of(file, interval=0.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crashed.indexer.run)
        await settle(crashed)
        await crashed.until(lambda: file.replaced == 1)
        first = file.content
        crashed.sink.broker_answers = anyio.Event()
        topic.append("b", 90)
        await crashed.until(lambda: file.attempts == 2)
        await anyio.wait_all_tasks_blocked()
        assert file.content == first
        crashed.sink.broker_answers.set()
        await crashed.until(lambda: file.replaced == 2)
        assert topic.committed == {P0: 2}
        crashed.sink.broker_answers = anyio.Event()
        topic.append("c", 180)
        await crashed.until(lambda: file.attempts == 3)
        tasks.cancel_scope.cancel()
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
        assert told(this).loaded
        assert held(this.indexer) == fold(topic)
    assert [id for id, _ in topic.judged()] == ["a", "b", "c", "c"], "not acknowledged is judged again, never left out"


async def test_without_a_last_commit_the_older_snapshot_is_kept(logs: list[EventDict]) -> None:
    topic, file = Topic(), MemoryFile()
    topic.append("a", 0)
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
    topic.append("b", 90)
    this = Running(topic, replace(SETTINGS, commit_interval=1000.0), of(file))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.catch_up()
        await this.until(lambda: len(topic.verdicts) == 2)
        this.changelog.commit_errors = [RetriableError("no coordinator")]
        this.indexer.stop()
    assert file.replaced == 1
    assert "no snapshot written at the stop, because some verdict offsets are not committed" in events(logs)
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
        assert told(this).loaded
    assert [id for id, _ in topic.judged()] == ["a", "b", "b"]


async def after_a_clean_stop() -> tuple[Topic, MemoryFile]:
    topic, file = Topic(), MemoryFile()
    for i in range(5):
        topic.append(f"id-{i}", i * 60)
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
    assert file.content is not None
    return topic, file


async def ignored(topic: Topic, snapshots: Snapshots, **changes: Any) -> str:
    """Why; after having seen that the index is what the topic holds."""
    async with running(topic, replace(SETTINGS, **changes), snapshots) as this:
        await settle(this)
        assert held(this.indexer) == fold(topic)
        assert not told(this).loaded
        reason = told(this).ignored
        assert reason is not None
        return reason


@pytest.mark.parametrize("damage", ["cut short", "flipped", "empty", "something else"])
async def test_a_damaged_one_is_ignored_and_made_anew(damage: str, logs: list[EventDict]) -> None:
    topic, file = await after_a_clean_stop()
    whole = file.content or b""
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 4
    damaged = {"cut short": whole[:-20], "flipped": bytes(flipped), "empty": b"", "something else": b"x" * 999}
    file.content = damaged[damage]
    reason = await ignored(topic, of(file))
    (line,) = [line for line in logs if line["event"].startswith("snapshot ignored")]
    assert (line["path"], line["reason"]) == ("a file in memory", reason)
    assert [id for id, _ in topic.judged()] == [f"id-{i}" for i in range(5)]
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
        assert told(this).loaded


async def test_a_foreign_one_is_ignored_by_name() -> None:
    topic, file = await after_a_clean_stop()
    content = file.content
    assert await ignored(topic, of(file, topic="other")) == "its topic is vectors, but here it is other"
    file.content = content
    assert await ignored(topic, of(file, cluster="d")) == "its cluster is c, but here it is d"
    file.content = content
    assert await ignored(topic, of(file), capacity=3000) == "its index.capacity is 1000, but here it is 3000"
    file.content = content
    policy = replace(SETTINGS.policy, neighbors=9)
    assert await ignored(topic, of(file), policy=policy) == "its index.neighbors is 5, but here it is 9"


async def test_one_that_is_ahead_of_the_commits_is_ignored() -> None:
    """Somebody has set the offsets back, to have verdicts anew."""
    topic, file = await after_a_clean_stop()
    topic.committed = {P0: 2}
    assert "verdicts are committed up to 2 only" in await ignored(topic, of(file))
    assert [id for id, _ in topic.judged()][5:] == ["id-2", "id-3", "id-4"]


async def test_one_of_a_topic_made_anew_is_ignored() -> None:
    _, file = await after_a_clean_stop()
    topic = Topic()
    topic.committed = {P0: 5}
    topic.append("other", 90)
    assert "holds offsets 0 to 1" in await ignored(topic, of(file))
    assert topic.judged() == [("other", None)]


async def test_one_that_is_older_than_tombstones_live_is_ignored() -> None:
    topic, file = await after_a_clean_stop()
    clock = Clock()
    clock.now += 23 * HOUR
    assert "23.0 hours old" in await ignored(topic, of(file, clock=clock))


async def test_a_disk_that_refuses_is_a_warning_and_the_old_one_stays(logs: list[EventDict]) -> None:
    topic, file = await after_a_clean_stop()
    content = file.content
    file.error = OSError("No space left on device")
    topic.append("new", 30)
    async with running(topic, snapshots=of(file, interval=0.0)) as this:
        await settle(this)
        await this.until(lambda: told(this).failures_total > 1)
        assert told(this).error == "No space left on device"
        assert file.content == content
        assert this.indexer.ready() is None
        file.error = None
        await this.until(lambda: told(this).saved_total == 1)
        assert (told(this).error, told(this).vectors) == (None, 6)
        assert told(this).bytes == len(file.content or b"")
    begin, end = [line for line in logs if line.get("part") == "snapshot"]
    assert (begin["event"], begin["reason"]) == ("snapshot unavailable", "No space left on device")
    assert end["event"] == "snapshot available again", "once each, however many attempts failed"


@pytest.mark.slow
async def test_what_has_not_changed_is_not_written_again_but_kept_young() -> None:
    topic, file, clock = Topic(), MemoryFile(), Clock()
    topic.append("a", 0)
    this = Running(topic, snapshots=of(file, interval=0.0, clock=clock))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await settle(this)
        await this.until(lambda: file.replaced == 1)
        for _ in range(10):  # days
            clock.now += 1.5 * HOUR
            idle = this.changelog.idle_polls
            await this.until(lambda idle=idle: this.changelog.idle_polls > idle + 5 and told(this).age_seconds == 0)  # type: ignore[misc]
        assert 3 <= file.replaced <= 6
        this.indexer.stop()
    async with running(topic, snapshots=of(file, clock=clock)) as this:
        await settle(this)
        assert told(this).loaded


async def test_a_stop_does_not_wait_for_the_one_being_written_and_writes_the_last() -> None:
    topic, file = Topic(), MemoryFile()
    topic.append("a", 0)
    file.open_gate = anyio.Event()
    this = Running(topic, snapshots=of(file, interval=0.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: file.attempts == 1)
        topic.append("b", 90)
        await settle(this)
        this.indexer.stop()
        await this.until(lambda: file.attempts == 2)
        file.open_gate.set()
    assert file.replaced == 1
    async with running(topic, snapshots=of(file)) as this:
        await settle(this)
        assert this.indexer.statistics().records_total == 0
        assert held(this.indexer) == fold(topic)


def fill(topic: Topic, rng: random.Random, count: int, tps: list[TopicPartition]) -> None:
    for _ in range(count):
        number = rng.randrange(40)
        degrees = None if rng.random() < 0.1 else rng.randrange(3600) / 10
        topic.append(f"id-{number}", degrees, tp=tps[number % len(tps)], n=number)


async def judge_in_turns(seed: int, turns: list[int], snapshots: bool) -> list[bytes | None]:
    rng, topic, file = random.Random(seed), Topic(), MemoryFile()
    for i, count in enumerate(turns):
        fill(topic, rng, count, [P0])
        if snapshots or i + 1 == len(turns):
            async with running(topic, snapshots=of(file) if snapshots else None) as this:
                await settle(this)
                assert told(this).loaded == (i > 0) if snapshots else True
                assert held(this.indexer) == fold(topic)
    return [message.value for message in topic.verdicts]


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 60), min_size=2, max_size=5))
@settings(max_examples=examples(10))
def test_with_clean_stops_in_between_verdicts_are_those_of_one_run(seed: int, turns: list[int]) -> None:
    with patch.object(content, "FEWEST", 4), patch.object(form, "FEWEST", 8), patch.object(anomalies, "_SCORES", 8):
        stopped, in_one_go = (anyio.run(judge_in_turns, seed, turns, snapshots) for snapshots in (True, False))
    assert stopped == in_one_go


async def crash_again_and_again(seed: int) -> None:
    rng, topic, file = random.Random(seed), Topic(P0, P1), MemoryFile()
    count = loaded = 0

    def append(most: int) -> None:
        nonlocal count
        for _ in range(rng.randrange(most)):
            number = rng.randrange(count + 1) if rng.random() < 0.1 else count
            deleted = number < count
            count += not deleted
            tp = (P0, P1)[number % 2]
            topic.append(f"id-{number}", None if deleted else rng.randrange(360), tp=tp)

    for turn in range(8):
        committed, verdicts = dict(topic.committed), len(topic.verdicts)
        append(30)
        commit_interval = rng.choice([0.0, 1000.0]) if turn < 7 else 0.0
        this = Running(topic, replace(SETTINGS, commit_interval=commit_interval), of(file, interval=0.0))
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(this.indexer.run)
                if rng.random() < 0.5:
                    await this.catch_up()
                for _ in range(rng.randrange(200)):
                    await anyio.lowlevel.checkpoint()
                    if rng.random() < 0.05:
                        append(10)
                if turn == 7:
                    await settle(this)
                if turn == 7 or rng.random() < 0.3:
                    this.indexer.stop()
                else:
                    tasks.cancel_scope.cancel()
        loaded += told(this).loaded
        assert told(this).ignored is None, "whatever was put in place can be used"
        said = [(message.key or b"") for message in topic.verdicts[verdicts:]]
        for tp, log in topic.logs.items():
            expected = [record.key for record in log[committed.get(tp, 0) :] if record.value is not None]
            mine = [key for key in said if key in expected]
            assert mine == expected[: len(mine)], "from the commit on, in order, none left out, none twice"
            said = [key for key in said if key not in expected]
        assert not said, "nothing from before the commit"
    assert topic.committed == {tp: end for tp, end in topic.ends.items() if end}
    assert held(this.indexer) == fold(topic)
    if loaded == 0:
        hypothesis.event("no snapshot was ever used")


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=examples(12))
def test_crashed_at_any_moment_no_verdict_is_lost_or_doubled_and_the_index_is_the_fold(seed: int) -> None:
    anyio.run(crash_again_and_again, seed)
