"""Records whose header names are any bytes, as clients in C and Go may write them; the Python clients cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

Raw = tuple[bytes | None, bytes | None, Sequence[tuple[bytes, bytes | None]]]


class _Name(str):
    """A name that becomes these bytes."""

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def name_of(raw: bytes) -> str:
    name = _Name("name")
    name.raw = raw
    return name


def builder() -> _DefaultRecordBatchBuilderPy:
    return _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 1 << 19)


async def produce_raw(
    bootstrap_servers: str,
    topic: str,
    records: Sequence[Raw],
    *,
    partition: int = 0,
    timestamps: Sequence[int | None] = (),
) -> None:
    """Keys, values and headers, in as few batches as hold them; `timestamps`: milliseconds, None for now."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        batch = None
        for (key, value, headers), timestamp in zip_longest(records, timestamps[: len(records)]):
            named = [(name_of(name), content) for name, content in headers]
            while batch is None or batch.append(timestamp=timestamp, key=key, value=value, headers=named) is None:
                if batch is not None:
                    await _send(producer, batch, topic, partition)
                batch = producer.create_batch()
                batch._builder = builder()
        if batch is not None:
            await _send(producer, batch, topic, partition)
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, batch: Any, topic: str, partition: int) -> None:
    batch.close()
    await (await producer.send_batch(batch, topic, partition=partition))
