"""What users of the index wait for: `python -m tests.bench.indexer [--bootstrap-servers HOST:PORT]`, one JSON line.

`streamer index` is started as a process on a topic of 100,000 vectors that an earlier run has judged. First it is given
a burst, which shows its maximum rate; then, for half a minute, half of that rate at random moments; then the same again
while clients search by vector through HTTP; then they search alone. Latency of a verdict: from handing the vector event
to a producer until a consumer of the verdict topic has it; both are librdkafka, which takes little of the cores that
all of this shares. Without an address it starts the Apache Kafka of deploy/kafka.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import orjson
import psutil
from anyio.to_thread import run_sync
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import TopicSpec, check_topics
from streamer.bench.vectors import KINDS, Maker
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER, form_of, sketch
from tests.support.brokers import Java
from tests.support.processes import StreamerProcess, streamer
from tests.support.stages import free_port

DIMENSIONS = 384
PARTITIONS = 4
SEARCHERS = 2
BETWEEN_SEARCHES = 0.1  # seconds that each waits before its next one
VOCABULARY = 10_000  # few enough words, and every text would be a copy of another


class Events:
    """Vector events made beforehand, so that making them costs nothing while times are taken."""

    def __init__(self, make: Maker, space: str, first: int, count: int) -> None:
        rng, words = np.random.default_rng(first), random.Random(first)
        self.keys = [f"event-{i}".encode() for i in range(first, first + count)]
        self.values: list[bytes] = []
        self.headers: list[list[tuple[str, str | bytes | None]]] = []
        for key, row in zip(self.keys, make(rng, count, DIMENSIONS), strict=True):
            document = {"id": key.decode(), "vector": row, "model": "m", "space": space, "dimensions": DIMENSIONS}
            self.values.append(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
            text = " ".join(f"word{words.randrange(VOCABULARY)}" for _ in range(30))
            self.headers.append(
                [("content-type", b"application/json"), (SKETCH_HEADER, sketch(text)), (FORM_HEADER, form_of(text))]
            )


class Load:
    """Sends vector events and notes when their verdicts come. It blocks."""

    def __init__(self, servers: str, vectors: str, verdicts: str) -> None:
        self._vectors = vectors
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(verdicts, partition, 0) for partition in range(PARTITIONS)])
        self._sent: dict[bytes, float] = {}
        self._judged: dict[bytes, float] = {}
        self._progress = threading.Condition()
        self._stopping = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Verdicts are noted inside."""
        reader = threading.Thread(target=self._read)
        reader.start()
        try:
            yield
        finally:
            self._producer.flush()
            self._stopping = True
            reader.join()
            self._consumer.close()

    def _read(self) -> None:
        while not self._stopping:
            message = self._consumer.poll(0.2)
            now = time.perf_counter()
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            with self._progress:
                self._judged[message.key() or b""] = now
                self._progress.notify_all()

    def _send(self, events: Events, number: int) -> None:
        key = events.keys[number]
        self._sent[key] = time.perf_counter()
        self._producer.produce(self._vectors, events.values[number], key, headers=events.headers[number])
        self._producer.poll(0)

    def _all_judged(self) -> None:
        with self._progress:
            if not self._progress.wait_for(lambda: len(self._judged) == len(self._sent), 120):
                raise TimeoutError(f"{len(self._judged)} verdicts on {len(self._sent)} events")

    def burst(self, events: Events) -> float:
        """Verdicts a second."""
        for number in range(len(events.keys)):
            self._send(events, number)
        self._all_judged()
        at = sorted(self._judged[key] for key in events.keys)
        tenth = len(at) // 10  # the first ones came before the backlog had built up
        return (len(at) - 1 - tenth) / (at[-1] - at[tenth])

    def steadily(self, events: Events, rate: float) -> list[float]:
        """Seconds from event to verdict, for events that come at random moments."""
        rng, due = random.Random(0), time.perf_counter()
        for number in range(len(events.keys)):
            due += rng.expovariate(rate)
            time.sleep(max(0.0, due - time.perf_counter()))
            self._send(events, number)
        self._all_judged()
        return [self._judged[key] - self._sent[key] for key in events.keys]


async def search(make: Maker, url: str, seconds: list[float], seed: int) -> None:
    """Until cancelled."""
    rng, as_json = np.random.default_rng(seed), {"content-type": "application/json"}
    async with httpx.AsyncClient() as client:
        while True:
            body = orjson.dumps({"vector": make(rng, 1, DIMENSIONS)[0].tolist(), "k": 10})
            await anyio.sleep(rng.exponential(BETWEEN_SEARCHES))
            began = time.perf_counter()
            response = await client.post(f"{url}/v1/search", content=body, headers=as_json)
            seconds.append(time.perf_counter() - began)
            assert len(response.json()["matches"]) == 10, response.text


class Processors:
    """What the processors did inside the `with`: how many cores were `busy`, the indexer's and all of the machine's,
    and the indexer's processor time for each of so many `events`, in milliseconds, which load beside it changes less.
    """

    def __init__(self, indexer: StreamerProcess, events: int) -> None:
        self._indexer = indexer
        self._events = events
        self.busy: dict[str, float] = {}
        self.ms_per_event = 0.0

    def __enter__(self) -> Processors:
        self._began = self._spent()
        return self

    def __exit__(self, *_: object) -> None:
        wall, indexer, everyone = (now - then for now, then in zip(self._spent(), self._began, strict=True))
        self.busy = {"indexer": round(indexer / wall, 2), "all": round(everyone / wall, 2)}
        self.ms_per_event = round(1000 * indexer / self._events, 2)

    def _spent(self) -> tuple[float, float, float]:
        everyone = psutil.cpu_times()
        return time.perf_counter(), self._indexer.cpu_seconds, sum(everyone) - everyone.idle - everyone.iowait


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)) * 1000, 1) for share in (50, 95, 99)} | {
        "count": len(values)
    }


def fill(make: Maker, servers: str, topic: str, group: str, space: str, count: int) -> None:
    """Vectors that an earlier run has judged."""
    producer = Producer({"bootstrap.servers": servers})
    for first in range(0, count, 5000):
        events = Events(make, space, first, min(5000, count - first))
        for key, value, headers in zip(events.keys, events.values, events.headers, strict=True):
            producer.produce(topic, value, key, headers=headers)
        producer.flush()
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(tp)[1] for tp in tps]
    offsets = [TopicPartition(tp.topic, tp.partition, end) for tp, end in zip(tps, ends, strict=True)]
    while True:
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
            break
        except KafkaException as exc:
            # The indexer that was asked for its space is a member until its session ends.
            if exc.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                raise
        time.sleep(1.0)
    consumer.close()


async def statistics(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        found: dict[str, Any] = (await client.get(f"{url}/v1/stats")).json()
        return found


async def measure(
    servers: str, indexer: StreamerProcess, url: str, space: str, topics: tuple[str, str], options: Any
) -> dict[str, Any]:
    load, make = Load(servers, *topics), KINDS[options.like]
    searches, alone = list[float](), list[float]()
    with load.reading():
        first = options.vectors
        await run_sync(load.burst, Events(make, space, first, 64))  # all that happens only once happens now
        first += 64
        events = Events(make, space, first, options.burst)
        with Processors(indexer, options.burst) as bursting:
            rate = await run_sync(load.burst, events)
        first += options.burst
        offered = options.rate or rate / 2
        count = round(options.seconds * offered)
        events = Events(make, space, first, count)
        with Processors(indexer, count) as steady:
            latencies = await run_sync(load.steadily, events, offered)
        events = Events(make, space, first + count, count)
        async with anyio.create_task_group() as searchers:
            for seed in range(SEARCHERS):
                searchers.start_soon(search, make, url, searches, seed)
            with Processors(indexer, count) as searching:
                beside = await run_sync(load.steadily, events, offered)
            searchers.cancel_scope.cancel()
        with anyio.move_on_after(options.seconds / 4):
            await search(make, url, alone, SEARCHERS)
    return {
        "bench": "indexer",
        "vectors": (await statistics(url))["vectors"],
        "like": options.like,
        "dimensions": DIMENSIONS,
        "maximum_events_per_second": round(rate),
        "events_per_second": round(offered),
        "event_to_verdict_ms": milliseconds(latencies),
        "cores_busy": steady.busy,
        "indexer_processor_ms_per_event": {
            "at_the_maximum": bursting.ms_per_event,
            "steadily": steady.ms_per_event,
            "with_the_searches_beside": searching.ms_per_event,
        },
        "event_to_verdict_beside_searches_ms": milliseconds(beside),
        "searches_per_second": round(len(searches) / options.seconds, 1),
        "search_ms": milliseconds(searches),
        "search_without_events_ms": milliseconds(alone),
        "rss_mib": indexer.rss >> 20,
    }


async def main(servers: str, options: argparse.Namespace) -> None:
    run = uuid.uuid4().hex[:8]
    vectors, verdicts, group = f"vectors-{run}", f"verdicts-{run}", f"group-{run}"
    await check_topics(KafkaConnection(bootstrap_servers=servers), [TopicSpec(vectors, PARTITIONS)], create=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, object] = {
            "kafka.bootstrap_servers": servers, "kafka.group_id": group,
            "topics.input": f"texts-{run}", "topics.vectors": vectors, "topics.verdicts": verdicts,
            "provider.name": "openai", "provider.model": "text-embedding-3-small", "provider.dimensions": DIMENSIONS,
            "provider.api_key": "never-used", "cache.path": Path(folder) / "cache.sqlite",
            "index.capacity": options.vectors, "http.port": port,
        }  # fmt: skip
        with streamer("index", settings) as indexer:  # to ask which space it is of
            await indexer.ready(port)
            space = (await statistics(url))["space"]
        await run_sync(
            partial(fill, KINDS[options.like], servers, vectors, f"{group}-verdicts", space, options.vectors)
        )
        with streamer("index", settings) as indexer:
            began = time.perf_counter()
            await indexer.ready(port, timeout=300)
            restored = time.perf_counter() - began
            results = await measure(servers, indexer, url, space, (vectors, verdicts), options)
    print(orjson.dumps(results | {"restore_seconds": round(restored, 1)}).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--like", choices=KINDS, default="texts", help="what the vectors are like")
    parser.add_argument("--burst", type=int, default=6_000)
    parser.add_argument("--rate", type=float, help="events a second, instead of half of the maximum rate")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    own = None if arguments.bootstrap_servers else Java()
    try:
        address = arguments.bootstrap_servers or (own.bootstrap_servers if own else "")
        anyio.run(main, address, arguments, backend_options={"use_uvloop": True})
    finally:
        if own:
            own.close()
