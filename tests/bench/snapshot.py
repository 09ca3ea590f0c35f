"""What a snapshot costs and what it saves: `python -m tests.bench.snapshot --broker 127.0.0.1:9092`.

With `OPENBLAS_NUM_THREADS=1`, which `streamer` sets for itself.

A vector topic is filled, then read by an indexer that saves a snapshot when it is stopped, then by another one that
goes on from it. Everything is measured from the start of `Indexer.run` to its readiness, on the broker that is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import numpy as np
import orjson
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.core.events import Message
from streamer.core.sketch import SKETCH_HEADER, sketch
from streamer.core.vectors import Space
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.protocols import Acknowledgement
from tests.support.vectors import like_texts

PARTITIONS = 4


async def fill(broker: str, topic: str, space: Space, count: int) -> None:
    """Vectors, sketches and metadata, as a worker with the binary format sends them."""
    rng = np.random.default_rng(0)
    producer = AIOKafkaProducer(bootstrap_servers=broker, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        for start in range(0, count, 1_000):
            words = rng.integers(5_000, size=(1_000, 20)).astype(str).tolist()
            vectors = like_texts(rng, min(1_000, count - start), space.dimensions)
            for number, vector in enumerate(vectors, start):
                headers = [
                    ("content-type", b"application/octet-stream"),
                    ("streamer-space", space.id.encode()),
                    ("streamer-model", space.model.encode()),
                    ("streamer-dimensions", str(space.dimensions).encode()),
                    ("streamer-metadata", orjson.dumps({"lang": "en", "channel": "mail", "customer": number})),
                    (SKETCH_HEADER, sketch(" word".join(words[number - start]))),
                ]
                await producer.send(topic, key=b"event-%d" % number, value=vector.tobytes(), headers=headers)
    finally:
        await producer.stop()


class NoSink:
    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        return self._acknowledged

    async def _acknowledged(self) -> None: ...


class Ticks:
    """The longest time for which the event loop did nothing else."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.005)
            self.longest = max(self.longest, time.perf_counter() - before - 0.005)


@asynccontextmanager
async def indexing(indexer: Indexer) -> AsyncIterator[float]:
    """Seconds until it is ready."""
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(indexer.run)
        while indexer.ready() is not None:  # noqa: ASYNC110 - readiness is a plain question
            await anyio.sleep(0.001)
        yield time.perf_counter() - began
        indexer.stop()


async def measure(broker: str, count: int, dimensions: int, folder: Path) -> dict[str, Any]:
    space = Space(provider="bench", model="random", dimensions=dimensions)
    topic, group = f"bench-{uuid.uuid4().hex[:8]}", f"bench-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        await fill(broker, topic, space, count)
        found: dict[str, Any] = {"vectors": count, "dimensions": dimensions}
        for turn in ("topic", "snapshot"):
            changelog = KafkaChangelog(KafkaConnection(bootstrap_servers=broker), topic, group)
            await changelog.start()
            if turn == "topic":
                await changelog.commit(await changelog.end_offsets())  # judged before: this is about restarts
            snapshots = Snapshots(SnapshotFile(folder / "index.snapshot"), {"topic": topic})
            indexer = Indexer(changelog, NoSink(), space, IndexerSettings(capacity=count), snapshots)
            cpu = time.process_time()
            async with indexing(indexer) as seconds:
                found[f"seconds_to_ready_from_{turn}"] = round(seconds, 2)
                found[f"cpu_seconds_from_{turn}"] = round(time.process_time() - cpu, 2)
                assert snapshots.statistics().loaded == (turn == "snapshot")
                if turn == "topic":
                    found |= await save(indexer, snapshots)
            await changelog.aclose()
        return found
    finally:
        await admin.delete_topics([topic])
        await admin.close()


async def save(indexer: Indexer, snapshots: Snapshots) -> dict[str, Any]:
    """While it follows an idle topic; the pause is that of intake and searches, for which the lock is held."""
    pauses: list[float] = []
    saving = indexer._saving
    assert saving is not None
    cut, ticks, memory = saving._cut, Ticks(), psutil.Process().memory_info().rss

    def timed_cut() -> Any:
        began = time.perf_counter(), time.thread_time()
        try:
            return cut()
        finally:
            pauses.extend((time.perf_counter() - began[0], time.thread_time() - began[1]))

    most = 0

    async def watch_memory() -> None:
        nonlocal most
        while True:
            most = max(most, psutil.Process().memory_info().rss - memory)
            await anyio.sleep(0.01)

    idle = Ticks()
    with anyio.move_on_after(3):
        await idle.run()
    with patch.object(saving, "_cut", timed_cut):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticks.run)
            tasks.start_soon(watch_memory)
            await saving.save()
            tasks.cancel_scope.cancel()
    statistics = snapshots.statistics()
    return {
        "megabytes": round(statistics.bytes / 1e6, 1),
        "save_seconds": round(statistics.write_seconds, 2),
        "intake_pause_ms": round(1000 * pauses[0], 1),
        "intake_pause_cpu_ms": round(1000 * pauses[1], 1),
        "longest_loop_pause_ms": round(1000 * ticks.longest, 1),
        "longest_loop_pause_before_ms": round(1000 * idle.longest, 1),
        "memory_megabytes": round(most / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:9092")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = anyio.run(measure, options.broker, options.vectors, options.dimensions, Path(folder))
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
