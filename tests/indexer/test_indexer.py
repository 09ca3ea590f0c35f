"""The side consumer against a topic in memory: restore, follow, restart, and what happens when a part fails."""

from __future__ import annotations

import time
from dataclasses import replace

import anyio
import pytest
from structlog.testing import capture_logs

from streamer.indexer.indexer import Indexer
from streamer.indexer.verdicts.judge import VerdictPolicy
from tests.support.indexing import OTHER, P0, P1, SETTINGS, SPACE, Running, Topic, running

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("backend")]


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
        assert second.indexer.statistics().verdicts_total["near_duplicate/"] == 1
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
    this.indexer = Indexer(
        this.changelog, this.sink, SPACE, replace(SETTINGS, max_unacknowledged_batches=0), store=topic.store
    )
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


@pytest.mark.parametrize("many", [1, 2, 5])
async def test_f14_records_of_the_year_2099_make_nothing_expire(many: int) -> None:
    topic = Topic()
    now = int(time.time() * 1000)
    for number in range(20):
        topic.append(f"id-{number}", number)
    for number in range(many):
        topic.append(f"future-{number}", 90 + number)
    log = topic.logs[P0]
    log[:] = [replace(record, timestamp=now if record.offset < 20 else 4_070_908_800_000) for record in log]
    async with running(topic, replace(SETTINGS, policy=VerdictPolicy(window=60_000))) as this:
        await this.settle()
        assert this.indexer.statistics().vectors == 20 + many
