"""Records whose header names are any bytes, as clients in C and Go may write them; the Python clients cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

Header: TypeAlias = tuple[bytes, bytes | None]
Raw: TypeAlias = tuple[bytes | None, bytes | None, Sequence[Header]]

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class _Name(str):
    """A name that becomes these bytes."""

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def name_of(raw: bytes) -> str:
    name = _Name("name")
    name.raw = raw
    return name


def builder(codec: str = "none", *, is_transactional: bool = False) -> _DefaultRecordBatchBuilderPy:
    return _DefaultRecordBatchBuilderPy(2, CODECS[codec], is_transactional, -1, -1, -1, 1 << 19)


async def produce_raw(
    bootstrap_servers: str,
    topic: str,
    records: Sequence[Raw],
    *,
    partition: int = 0,
    timestamps: Sequence[int | None] = (),
    codecs: Sequence[str] = ("none",),
    transactional_id: str | None = None,
) -> None:
    """Keys, values and headers, in as few batches as hold them, or in batches of 100 with several `codecs` in turn.

    `timestamps`: milliseconds, None for now. With a `transactional_id` every batch is written twice, first in a
    transaction that is aborted.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", transactional_id=transactional_id)
    await producer.start()
    try:
        waiting = list(zip_longest(records, timestamps[: len(records)]))
        turn = 0
        while waiting:
            codec = codecs[turn % len(codecs)]
            turn += 1
            most = 100 if len(codecs) > 1 or transactional_id else len(waiting)
            taken = await _send(producer, topic, partition, waiting[:most], codec, transactional_id is not None)
            del waiting[:taken]
    finally:
        await producer.stop()


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: list[Any], codec: str, is_transactional: bool
) -> int:
    """How many fitted into the batch."""
    taken = 0
    for is_aborted in (True, False) if is_transactional else (False,):
        if is_transactional:
            await producer.begin_transaction()
        batch, taken = raw_batch(producer, records, codec, is_transactional=is_transactional)
        await (await producer.send_batch(batch, topic, partition=partition))
        if is_transactional:
            await (producer.abort_transaction() if is_aborted else producer.commit_transaction())
    return taken


def raw_batch(
    producer: AIOKafkaProducer,
    records: Sequence[tuple[Raw, int | None]],
    codec: str = "none",
    *,
    is_transactional: bool = False,
) -> tuple[Any, int]:
    """A closed batch of records and timestamps, for the producer to send, and how many fitted into it."""
    batch: Any = producer.create_batch()
    batch._builder = builder(codec, is_transactional=is_transactional)
    batch._set_producer_state = batch._builder.set_producer_state  # which insists on its own kind of builder
    taken = 0
    for (key, value, headers), timestamp in records:
        named = [(name_of(name), content) for name, content in headers]
        if batch.append(timestamp=timestamp, key=key, value=value, headers=named) is None:
            break
        taken += 1
    batch.close()
    return batch, taken
