"""aiokafka alone: getmany, send, await all of it, commit."""

from __future__ import annotations

import asyncio

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.peers.job import GROUP, SERVERS, SOURCE, TARGET, embed, vector_event


async def main() -> None:
    consumer = AIOKafkaConsumer(
        SOURCE, bootstrap_servers=SERVERS, group_id=GROUP, auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=SERVERS, enable_idempotence=True, linger_ms=5, max_batch_size=512 * 1024
    )
    async with consumer, producer:
        while True:
            batches = await consumer.getmany(timeout_ms=200, max_records=1000)
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            documents = [orjson.loads(record.value) for record in records]
            vectors = embed([document["text"] for document in documents])
            sent = []
            for record, document, vector in zip(records, documents, vectors, strict=True):
                source = (record.partition, record.offset, record.timestamp)
                value = vector_event(record.key, document, vector, source)
                sent.append(await producer.send(TARGET, value, record.key))
            await asyncio.gather(*sent)
            await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())
