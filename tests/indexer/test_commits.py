"""Verdict offsets are committed soon, renewed before they expire, and never ahead of the verdicts."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streamer.core.events import TopicPartition
from streamer.errors import Refused, RetriableError
from tests.support.indexing import P0, P1, SETTINGS, Running, Topic, running

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("interval", [0.005, 0.02, 0.05])
async def test_row_e5_commits_are_renewed_before_the_broker_forgets_them(interval: float) -> None:
    """Field case E5."""
    topic = Topic(P0, P1)
    topic.append("quiet", 0, tp=P1)
    topic.append("a", 0)
    async with running(topic, replace(SETTINGS, renewal_interval=interval)) as this:
        await this.settle()
        topic.committed.clear()  # a week has passed
        await this.settle()


async def test_verdicts_that_the_broker_refuses_in_every_form_are_counted_and_passed() -> None:
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic)
    this.sink.error = Refused({0: MessageSizeTooLargeError()}, "the broker refuses the message as too large")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        assert this.indexer.statistics().verdicts_refused_total == 1
        this.indexer.stop()
    assert topic.committed == {P0: 1}


@pytest.mark.parametrize(
    "behind",
    [
        {P0: 1, P1: 0},  # the marker of one transaction
        {P0: 1, P1: 1},  # one that wrote to both
        {P0: 12, P1: 0},  # an aborted one, with its marker
        {P0: 0, P1: 500},  # a compacted end
    ],
)
async def test_row_e4_what_holds_no_records_is_no_lag(behind: dict[TopicPartition, int]) -> None:
    """Field case E4: tools count every offset behind the committed one."""
    topic = Topic(P0, P1)
    async with running(topic) as this:
        for round_ in range(3):
            for tp, count in behind.items():
                topic.append(f"{tp.partition}-{round_}", 10 * round_, tp=tp)
                topic.ends[tp] += count
            await this.settle()
    assert len(topic.verdicts) == 6


async def test_row_e4_markers_are_not_committed_before_the_verdicts_in_front_of_them() -> None:
    topic = Topic()
    this = Running(topic)
    this.sink.broker_answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        topic.append("a", 0)
        topic.ends[P0] += 1
        idle = this.changelog.idle_polls
        await this.until(lambda: this.changelog.idle_polls > idle + 5)
        assert topic.committed == {}
        this.sink.broker_answers.set()
        await this.settle()
        this.indexer.stop()
    assert topic.committed == {P0: 2}


async def test_row_e4_a_partition_without_any_record_and_a_position_that_goes_back_commit_nothing() -> None:
    topic = Topic(P0, P1)
    topic.append("a", 0)
    async with running(topic) as this:
        await this.settle()
        topic.ends[P1] = 7  # markers only: nobody has an offset there
        topic.ends[P0] = 0  # the log was cut off
        this.changelog.seek({P0: 0})
        idle = this.changelog.idle_polls
        await this.until(lambda: this.changelog.idle_polls > idle + 5)
        assert topic.committed == {P0: 1}
        topic.logs[P0].clear()


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
