"""Reads and writes topics with the plain client: the checker must not share code with what it checks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

Pair = tuple[bytes | None, bytes | None]


async def produce(bootstrap_servers: str, topic: str, pairs: Sequence[Pair], **options: Any) -> dict[int, int]:
    """Keys and values, acknowledged by all replicas. Returns the offset after the last one of each partition."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", linger_ms=5, max_batch_size=262144)
    await producer.start()
    try:
        futures = [await producer.send(topic, key=key, value=value, **options) for key, value in pairs]
        ends: dict[int, int] = {}
        for future in futures:
            record = await future
            ends[record.partition] = record.offset + 1
        return ends
    finally:
        await producer.stop()


async def read_until(
    bootstrap_servers: str,
    topic: str,
    done: Callable[[list[Any]], bool],
    *,
    timeout: float = 60.0,
    isolation_level: str = "read_uncommitted",
) -> list[Any]:
    """All records of a topic from its beginning, in order per partition, until `done` says enough."""
    async with from_the_beginning(bootstrap_servers, topic, isolation_level) as consumer:
        records: list[Any] = []
        deadline = time.monotonic() + timeout
        while not done(records):
            assert time.monotonic() < deadline, f"{topic}: {len(records)} records after {timeout} s"
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
        return records


@asynccontextmanager
async def from_the_beginning(
    bootstrap_servers: str, topic: str, isolation_level: str = "read_uncommitted"
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all of the topic's partitions, of no group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", isolation_level=isolation_level
    )
    await consumer.start()
    try:
        partitions = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or set()
        consumer.assign([TopicPartition(topic, p) for p in partitions])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def read_all(bootstrap_servers: str, topic: str, timeout: float = 60.0) -> list[Any]:
    """Everything up to the end offsets of this moment."""
    ends = await end_offsets(bootstrap_servers, topic)
    missing = {tp.partition: offset for tp, offset in ends.items() if offset}

    def done(records: list[Any]) -> bool:
        highest: dict[int, int] = {}
        for record in records:
            highest[record.partition] = max(record.offset, highest.get(record.partition, -1))
        return all(highest.get(partition, -1) + 1 >= offset for partition, offset in missing.items())

    return await read_until(bootstrap_servers, topic, done, timeout=timeout)


async def end_offsets(bootstrap_servers: str, topic: str) -> Mapping[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    try:
        await consumer.start()
        partitions = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or set()
        return dict(await consumer.end_offsets([TopicPartition(topic, p) for p in partitions]))
    finally:
        await consumer.stop()


async def ends_as_read(bootstrap_servers: str, topic: str) -> Mapping[TopicPartition, int]:
    """The end offsets as a reader finds them. The embedded broker answers a question for them with the offset after the
    first record of the last batch, so that batch is read. Not for transactions, which end in what no reader is shown.
    """
    async with from_the_beginning(bootstrap_servers, topic) as consumer:
        ends = {tp: end for tp, end in (await consumer.end_offsets(consumer.assignment())).items() if end}
        for tp, end in ends.items():
            consumer.seek(tp, end - 1)
        for tp in list(ends):  # a partition may get its first record meanwhile
            while await consumer.position(tp) < ends[tp]:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    ends[TopicPartition(topic, batch[-1].partition)] = batch[-1].offset + 1
        return ends


async def committed(bootstrap_servers: str, group_id: str, topic: str) -> dict[int, int]:
    """Committed offsets by partition; partitions without one are left out."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group_id, enable_auto_commit=False)
    try:
        await consumer.start()
        partitions = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or set()
        tps = [TopicPartition(topic, p) for p in sorted(partitions)]
        consumer.assign(tps)
        found = {tp.partition: await consumer.committed(tp) for tp in tps}
        return {partition: offset for partition, offset in found.items() if offset is not None}
    finally:
        await consumer.stop()
