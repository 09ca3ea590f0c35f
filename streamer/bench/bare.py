"""The loops that one would write by hand in the place of a worker and of an indexer, with the client as it comes.

Nothing is imported here that changes how the client reads: see adapters/kafka/records.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamer.app.connection import connection_of
from streamer.bench.job import POOL, WARM, pool, settings_of
from streamer.bench.measuring import peak, rate_since
from streamer.worker.vector_messages import OutputFormat


async def reading(
    *, where: Mapping[str, Any], topic: str, partitions: int, vectors: int, dimensions: int, format: str
) -> Any:
    """What one would write by hand, and nothing is checked. `rate`: vectors a second, and microseconds of each."""
    settings = settings_of(where)
    rows = np.empty((vectors, dimensions), np.float32)
    consumer = AIOKafkaConsumer(**connection_of(settings).consumer_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
        await consumer.seek_to_beginning()
        began, cpu, done = time.perf_counter(), time.process_time(), 0
        while done < vectors:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for record in batch:
                    rows[done] = (
                        np.frombuffer(record.value, "<f4")
                        if format == "binary"
                        else orjson.loads(record.value)["vector"]
                    )
                    done += 1
        return {"rate": rate_since(began, cpu, vectors), "peak": peak()}
    finally:
        await consumer.stop()


async def passing_on(
    *, where: Mapping[str, Any], topic: str, target: str, format: OutputFormat, dimensions: int, events: int
) -> Any:
    """What one would write by hand: getmany, send for each record, await all, commit. `rate`: as `worker` has it."""
    settings = settings_of(where)
    connection = connection_of(settings)
    consumer = AIOKafkaConsumer(
        topic,
        **connection.consumer_options(),
        group_id=f"streamer-bench-{uuid.uuid4().hex[:8]}",
        session_timeout_ms=settings.kafka.session_timeout_ms,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(
        **connection.client_options(), enable_idempotence=settings.kafka.idempotent, linger_ms=5,
        max_batch_size=512 * 1024,
    )  # fmt: skip
    vectors = pool(dimensions)
    headers = [("space", b"stub")]
    await consumer.start()
    await producer.start()
    try:
        done = first = 0
        began, cpu = time.perf_counter(), time.process_time()
        while done < events:
            futures = []
            for batch in (await consumer.getmany(timeout_ms=200, max_records=1000)).values():
                for record in batch:
                    document = orjson.loads(record.value)
                    vector = vectors[done % POOL]
                    if format == "binary":
                        value = vector.tobytes()
                    else:
                        body = {"id": record.key.decode(), "vector": vector, **document}
                        value = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
                    futures.append(await producer.send(target, value, record.key, headers=headers))
                    done += 1
            await asyncio.gather(*futures)
            await consumer.commit()
            if done < events // WARM:
                began, cpu, first = time.perf_counter(), time.process_time(), done
        return {"rate": rate_since(began, cpu, max(1, done - first))}
    finally:
        await consumer.stop()
        await producer.stop()
