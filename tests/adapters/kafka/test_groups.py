"""A group seen from outside, on a broker."""

from __future__ import annotations

import time
import uuid

import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import RecordsToDelete

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.groups import watching
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import TopicPartition
from tests.adapters.kafka.reading import administration
from tests.support.brokers import NewTopicName
from tests.support.topics import produce

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


class Nothing:
    """A flow that takes its partitions and reads none."""

    async def on_assigned(self, tps: object) -> None: ...

    async def on_revoked(self, tps: object) -> None: ...

    async def on_lost(self, tps: object) -> None: ...


@pytest.mark.real_kafka("groups as tools see them")
async def test_members_lag_and_what_came_lately(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic, id = await new_topic(partitions=2), uuid.uuid4().hex
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    await produce(bootstrap_servers, topic, [(b"k", b"%d" % n) for n in range(30)])
    source = KafkaSource(connection, [topic], id)
    async with watching(connection) as watcher:
        before = await watcher.group(id)
        assert (list(before.members or []), before.lag) == ([], {})
        counts = await watcher.since(topic, 0)
        assert sorted(counts.values()) == [0, 30], "all of one key"
        await source.start(Nothing())
        try:
            tp = TopicPartition(topic, next(tp.partition for tp, count in counts.items() if count))
            await source.commit({tp: 29})
            group = await watcher.group(id)
        finally:
            await source.aclose()
        assert group.lag == {tp: 1}
        assert group.members is None or len(group.members) == 1
        assert [record.value for record in await watcher.latest(counts, 3)] == [b"27", b"28", b"29"]
        async with administration(bootstrap_servers) as admin:
            await admin.delete_records({ClientPartition(*tp): RecordsToDelete(before_offset=28)})
        assert [record.value for record in await watcher.latest({tp: 10}, 10)] == [b"28", b"29"]
        assert set((await watcher.since(topic, int((time.time() + 60) * 1000))).values()) == {0}
        assert await watcher.since("no-such-topic", 0) == {}
