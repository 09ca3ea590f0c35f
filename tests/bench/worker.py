"""The worker's own cost: events through a stub provider on a broker, against a bare consume-and-produce loop.

    python -m tests.bench.worker --events 200000 [--bootstrap-servers HOST:PORT]

Without an address it starts the Apache Kafka of deploy/kafka. Prints one JSON line: events/s of both and their ratio
in one run, processor time of an event (which other programs on the machine disturb little), resident memory at the
start, in the middle and at the end, and the most asyncio tasks seen.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Sequence
from functools import partial

import anyio
import anyio.lowlevel
import numpy as np
import orjson
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.topics import TopicSpec, check_topics
from streamer.app.garbage import seldom_collected
from streamer.core.decoding import Decoder
from streamer.core.events import Message
from streamer.core.vectors import Purpose, Space
from streamer.embedding.cached import CachedEmbedder
from streamer.protocols import Embedding, Rejection
from streamer.worker.batching import BatchPolicy
from streamer.worker.encoding import Encoder, OutputFormat
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from tests.support.brokers import Java

PARTITIONS = 4


class Stub:
    """Vectors at no cost: what is left is ours."""

    def __init__(self, dimensions: int) -> None:
        self.space = Space(provider="stub", model="stub", dimensions=dimensions)
        self._vectors = np.random.default_rng(0).standard_normal((4096, dimensions)).astype(np.float32)

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        await anyio.lowlevel.checkpoint()
        return [Embedding(self._vectors[n % 4096], 5, False) for n in range(len(texts))]


async def fill(connection: KafkaConnection, topic: str, events: int) -> None:
    sink = KafkaSink(connection)
    await sink.start()
    for start in range(0, events, 5000):
        messages = [
            Message(topic, str(n).encode(), orjson.dumps({"text": f"event {n} says hello to the world", "n": n}), ())
            for n in range(start, min(events, start + 5000))
        ]
        acknowledged = await sink.send(messages)
        await acknowledged()
    await sink.aclose()


async def bare_loop(
    connection: KafkaConnection, topic: str, target: str, events: int, stub: Stub
) -> tuple[float, float]:
    """What one would write by hand: getmany, send per record, await all, commit. Seconds for `events`, by the clock and
    of a processor."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=connection.bootstrap_servers,
        group_id=uuid.uuid4().hex,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=connection.bootstrap_servers, enable_idempotence=True, linger_ms=5, max_batch_size=512 * 1024
    )
    vectors = stub._vectors
    await consumer.start()
    await producer.start()
    try:
        done, started, busy = 0, 0.0, 0.0
        while done < events:
            futures = []
            for batch in (await consumer.getmany(timeout_ms=200, max_records=1000)).values():
                if not started:
                    started, busy = time.perf_counter(), time.process_time()
                for record in batch:
                    body = {"id": record.key.decode(), "vector": vectors[done % 4096], **orjson.loads(record.value)}
                    value = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
                    futures.append(await producer.send(target, value, record.key, headers=[("space", b"stub")]))
                    done += 1
            await asyncio.gather(*futures)
            await consumer.commit()
        return time.perf_counter() - started, time.process_time() - busy
    finally:
        await consumer.stop()
        await producer.stop()


async def through_the_worker(
    connection: KafkaConnection, topic: str, target: str, events: int, output: OutputFormat, stub: Stub
) -> tuple[float, float, list[int], int]:
    """Seconds for `events` by the clock and of a processor, resident MiB at three moments, most tasks."""
    sink = KafkaSink(connection)
    await sink.start()
    source = KafkaSource(connection, [topic], uuid.uuid4().hex)
    encoder = Encoder(space=stub.space, vectors_topic=target, dead_letters_topic=f"{target}-dead", format=output)
    settings = PipelineSettings(
        batch=BatchPolicy(), max_batches=2, max_in_flight_events=4000, max_in_flight_bytes=16_000_000,
        commit_interval=1.0, drain_timeout=10.0,
    )  # fmt: skip
    flow = Pipeline(source, CachedEmbedder(stub, None), sink, Decoder(), encoder, settings)
    process = psutil.Process()
    started, busy, most_tasks = 0.0, 0.0, 0
    rss: dict[int, int] = {}
    async with anyio.create_task_group() as tasks:
        await source.start(flow)
        tasks.start_soon(flow.run)
        while (done := flow.statistics()).embedded_total < events or done.in_flight:
            if not started and done.records_total:
                started, busy = time.perf_counter(), time.process_time()
            rss.setdefault(10 * done.embedded_total // events, process.memory_info().rss // 2**20)
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            await anyio.sleep(0.05)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        flow.stop()
    await source.aclose()
    await sink.aclose()
    marks = [min(rss, key=partial(_distance, tenth)) for tenth in (1, 5, 9)]
    return seconds, busy, [rss[mark] for mark in marks], most_tasks


def _distance(wanted: int, tenth: int) -> int:
    return abs(tenth - wanted)


async def main(bootstrap_servers: str, events: int, output: OutputFormat, dimensions: int) -> None:
    stub = Stub(dimensions)
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    run = uuid.uuid4().hex[:8]
    topic, ours, bare = f"texts-{run}", f"vectors-{run}", f"bare-{run}"
    await check_topics(connection, [TopicSpec(name, PARTITIONS) for name in (topic, ours, bare)], create=True)
    await fill(connection, topic, events)
    bare_seconds, bare_busy = await bare_loop(connection, topic, bare, events, stub)
    with seldom_collected():
        seconds, busy, rss, tasks = await through_the_worker(connection, topic, ours, events, output, stub)
    print(
        orjson.dumps(
            {
                "bench": "worker", "events": events, "format": output, "dimensions": dimensions,
                "events_per_second": round(events / seconds), "cpu_microseconds_an_event": round(1e6 * busy / events),
                "bare_loop_events_per_second": round(events / bare_seconds), "ratio": round(bare_seconds / seconds, 2),
                "bare_loop_cpu_microseconds_an_event": round(1e6 * bare_busy / events),
                "ratio_of_cpu": round(bare_busy / busy, 2),
                "rss_mib_start_middle_end": rss, "most_tasks": tasks,
            }
        ).decode()
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--format", choices=("json", "binary"), default="json")
    parser.add_argument("--dimensions", type=int, default=384)
    arguments = parser.parse_args()
    own = None if arguments.bootstrap_servers else Java()
    try:
        address = arguments.bootstrap_servers or (own.bootstrap_servers if own else "")
        anyio.run(
            main,
            address,
            arguments.events,
            arguments.format,
            arguments.dimensions,
            backend_options={"use_uvloop": True},
        )
    finally:
        if own:
            own.close()
