"""A consumer in its group: joined in the end, by one assignor, and left without a trace."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import TopicPartition
from streamer.errors import PartitionLost
from tests.adapters.kafka.reading import fill, in_a_mock_group
from tests.support.mock_cluster import Api, Error, mock_cluster

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_a_group_that_is_still_loading_is_joined_in_the_end() -> None:
    with mock_cluster() as cluster:
        topic = cluster.create_topic("texts")
        await fill(cluster.bootstrap_servers, topic, 0, 10)
        cluster.answer_with(Api.JOIN_GROUP, Error.COORDINATOR_LOADING, Error.COORDINATOR_NOT_AVAILABLE)
        cluster.answer_with(Api.SYNC_GROUP, Error.REBALANCE_IN_PROGRESS)
        async with in_a_mock_group(cluster, topic) as reader:
            await reader.read(lambda: len(reader.records) == 10)


async def test_there_is_one_assignor_only() -> None:
    """With two, the client joins once for each and waits for itself."""
    source = KafkaSource(KafkaConnection(bootstrap_servers="127.0.0.1:1"), ["texts"], "group")
    assert len(source._membership._options["partition_assignment_strategy"]) == 1


async def test_a_consumer_that_cannot_stop_leaves_nothing_behind() -> None:
    """It waits for a group that waits for it. Its tasks would go on fetching, and pretend to the group to be alive."""
    with mock_cluster() as cluster:
        topic = cluster.create_topic("texts")
        async with in_a_mock_group(cluster, topic) as reader:
            await fill(cluster.bootstrap_servers, topic, 0, 1)
            await reader.read(lambda: len(reader.records) == 1)
            cluster.answer_with(Api.OFFSET_COMMIT, Error.ILLEGAL_GENERATION)
            with pytest.raises(PartitionLost):
                await reader.source.commit({TopicPartition(topic, 0): 1})
            with anyio.fail_after(10):
                while "revoked" not in reader.events:  # noqa: ASYNC110 - the client calls it in its own time
                    await anyio.sleep(0.01)
        codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
        assert not [code for code in codes if code is not None and "aiokafka" in code.co_filename]
