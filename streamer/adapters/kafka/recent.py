"""The last records of a topic, read without a group: nothing is committed, and no member of a group notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import KafkaError
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.groups import watching
from streamer.adapters.kafka.ranges import read_ranges
from streamer.adapters.kafka.records import AS_OURS
from streamer.core.events import Record
from streamer.errors import Unreachable


@dataclass(frozen=True, slots=True)
class RecentRecords:
    """`records`: oldest first, by their timestamps. `partitions`: of the topic. `waiting`: records that the group has
    not committed; None where it has committed nothing, or nobody tells."""

    records: Sequence[Record]
    partitions: int
    waiting: int | None

    def rate(self) -> float | None:
        """Records a second, by the timestamps of these; None where they do not tell."""
        if len(self.records) < 2:
            return None
        seconds = (self.records[-1].timestamp - self.records[0].timestamp) / 1000
        return (len(self.records) - 1) / seconds if seconds > 0 else None


async def read_last(
    connection: KafkaConnection, topic: str, count: int, *, group_id: str, isolation_level: str
) -> RecentRecords:
    """The last `count` records. `group_id`: whose lag is looked at. Raises Unreachable."""
    consumer = AIOKafkaConsumer(
        **connection.consumer_options(),
        key_deserializer=AS_OURS,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
    )
    try:
        await connection.reach(consumer.start())
        found = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or ()  # noqa: SLF001  # without a subscription the client has no public way
        tps = [ClientPartition(topic, partition) for partition in sorted(found)]
        if not tps:
            raise Unreachable(f"topic {topic!r} does not exist; create it with: streamer topics --create")
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        records = await read_ranges(consumer, {tp: (max(begins[tp], ends[tp] - count), ends[tp]) for tp in tps})
    except KafkaError as exc:
        raise Unreachable(f"topic {topic!r} cannot be read: {exc!r}") from exc
    finally:
        with CancelScope(shield=True):
            await consumer.stop()
    records.sort(key=lambda record: (record.timestamp, record.tp.partition, record.offset))
    return RecentRecords(records[-count:], len(tps), await _waiting(connection, topic, group_id))


async def _waiting(connection: KafkaConnection, topic: str, group_id: str) -> int | None:
    try:
        async with watching(connection) as watcher:
            lag = (await watcher.group(group_id)).lag
    except Unreachable:  # a cluster in which no group has ever been has no coordinator
        return None
    behind = [records for tp, records in lag.items() if tp.topic == topic]
    return sum(behind) if behind else None
