"""Commits that the group refuses or that nobody answers: bounded in time, and never heard of again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import pytest

from streamer.core.events import TopicPartition
from streamer.errors import PartitionLost, RetriableError
from tests.adapters.kafka.reading import SHORT, fill, in_a_mock_group
from tests.support.mock_cluster import Api, Error, mock_cluster
from tests.support.topics import committed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "error", [Error.REBALANCE_IN_PROGRESS, Error.ILLEGAL_GENERATION, Error.UNKNOWN_MEMBER], ids=lambda e: e.name
)
async def test_a_commit_that_the_group_refuses_is_given_up(error: Error) -> None:
    with mock_cluster() as cluster:
        topic = cluster.create_topic("texts")
        await fill(cluster.bootstrap_servers, topic, 0, 10)
        async with in_a_mock_group(cluster, topic) as reader:
            await reader.read(lambda: len(reader.records) == 10)
            cluster.answer_with(Api.OFFSET_COMMIT, error)
            with pytest.raises((PartitionLost, RetriableError)):
                await reader.source.commit({TopicPartition(topic, 0): 10})


@pytest.mark.slow
async def test_a_coordinator_that_is_away_bounds_a_commit_and_gets_it_later() -> None:
    with mock_cluster() as cluster:
        topic = cluster.create_topic("texts")
        await fill(cluster.bootstrap_servers, topic, 0, 10)
        # The client repeats it ten times a second.
        async with in_a_mock_group(cluster, topic, timeouts=replace(SHORT, step=0.5)) as reader:
            await reader.read(lambda: len(reader.records) == 10)
            cluster.answer_with(Api.OFFSET_COMMIT, *[Error.COORDINATOR_NOT_AVAILABLE] * 12)
            with anyio.fail_after(10), pytest.raises(RetriableError):
                await reader.source.commit({TopicPartition(topic, 0): 5})
            waiting = [repr(task.get_coro()) for task in asyncio.all_tasks()]
            assert not [coro for coro in waiting if "commit_offsets at" in coro or ".commit at" in coro], (
                "it could undo a later one"
            )
            with anyio.fail_after(60):
                while True:
                    try:
                        await reader.source.commit({TopicPartition(topic, 0): 10})
                        break
                    except RetriableError:
                        continue
        assert await committed(cluster.bootstrap_servers, f"group-{topic}", topic) == {0: 10}
