"""FastStream: a handler for each message; with `batch` as argument, one for many."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from tests.bench.peers.job import GROUP, SERVERS, SOURCE, TARGET, embed, vector_event

# By itself it logs two lines for each message.
broker = KafkaBroker(SERVERS, linger_ms=5, enable_idempotence=True, logger=None)


async def handle(document: dict[str, Any], message: KafkaMessage) -> None:
    record: Any = message.raw_message
    (vector,) = embed([document["text"]])
    value = vector_event(record.key, document, vector, (record.partition, record.offset, record.timestamp))
    await broker.publish(value, TARGET, key=record.key, no_confirm=True)


async def handle_batch(documents: list[dict[str, Any]], message: KafkaMessage) -> None:
    records: Any = message.raw_message
    vectors = embed([document["text"] for document in documents])
    for record, document, vector in zip(records, documents, vectors, strict=True):
        value = vector_event(record.key, document, vector, (record.partition, record.offset, record.timestamp))
        await broker.publish(value, TARGET, key=record.key, no_confirm=True)


def main() -> None:
    options: dict[str, Any] = {"group_id": GROUP, "auto_offset_reset": "earliest"}
    if "batch" in sys.argv[1:]:
        broker.subscriber(SOURCE, batch=True, max_records=1000, **options)(handle_batch)
    else:
        broker.subscriber(SOURCE, **options)(handle)
    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main()
