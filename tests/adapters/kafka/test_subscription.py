"""KafkaSubscription: what the client's consumers read through."""

from __future__ import annotations

import pytest

from streamer.adapters.kafka.connection import connection_to
from streamer.adapters.kafka.subscription import KafkaSubscription
from streamer.core.events import Record, TopicPartition
from streamer.errors import Unreachable
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import committed, produce

pytestmark = pytest.mark.anyio


async def test_a_broker_that_is_not_there(free_tcp_port: int) -> None:
    subscription = KafkaSubscription(connection_to(f"127.0.0.1:{free_tcp_port}"), "texts")
    with pytest.raises(Unreachable, match="cannot be reached"):
        await subscription.start()


@pytest.mark.real_kafka("consumer groups that remember offsets")
async def test_only_partitions_that_are_still_assigned_are_committed(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic(partitions=1)
    group = f"group-{topic}"
    await produce(broker.bootstrap_servers, topic, [(b"k", b"v")] * 3)
    subscription = KafkaSubscription(connection_to(broker.bootstrap_servers), topic, group_id=group)
    await subscription.start()
    try:
        records: list[Record] = []
        while len(records) < 3:
            records += await subscription.poll(1.0)
        assert [(record.tp, record.offset) for record in records] == [((topic, 0), offset) for offset in range(3)]
        await subscription.commit({TopicPartition(topic, 0): 2, TopicPartition(topic, 7): 5})
    finally:
        await subscription.aclose()
    assert await committed(broker.bootstrap_servers, group, topic) == {0: 2}


@pytest.mark.kafka
async def test_without_a_group_nothing_is_committed(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic(partitions=1)
    await produce(broker.bootstrap_servers, topic, [(b"k", b"v")])
    subscription = KafkaSubscription(connection_to(broker.bootstrap_servers), topic)
    await subscription.start()
    try:
        while not (records := await subscription.poll(1.0)):
            pass
        await subscription.commit({record.tp: record.offset + 1 for record in records})  # the client would raise
    finally:
        await subscription.aclose()
