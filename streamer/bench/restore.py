"""An indexer's start beside a loop that consumes the same records and does no more than `numpy.frombuffer`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from streamer.adapters.snapshot_file import SnapshotFile
from streamer.app.kafka import open_changelog
from streamer.app.runtime import runtime_for_streaming
from streamer.bench.child import ask
from streamer.bench.figures import Figure, Sample
from streamer.bench.job import settings_of
from streamer.bench.measuring import peak, rate_since
from streamer.bench.topics import new_topic, publish, topics
from streamer.bench.vectors import like_texts
from streamer.core.events import EmbeddedEvent, Event, Message, Origin, Record, TopicPartition
from streamer.core.vectors import Matrix, Space
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.protocols import Acknowledgement
from streamer.worker.encoding import Encoder
from streamer.worker.vector_messages import OutputFormat

VOCABULARY = 5_000
WORDS = 20
MADE = 1_000  # vectors made at a time


async def measure_restore(
    *, runs: int, vectors: int, dimensions: int, format: OutputFormat, partitions: int, where: Mapping[str, Any]
) -> list[Figure]:
    settings = settings_of(where)
    topic, group = new_topic("vectors"), new_topic("group")
    bare = "bare consume and frombuffer loop" if format == "binary" else "bare consume and orjson loop"
    from_topic = Figure("restored from the topic", "vectors/s", bare)
    from_snapshot = Figure("restored from a snapshot", "vectors/s", bare)
    size = Figure("snapshot of a vector", "B", "float32 vector")
    memory = Figure("peak of the indexer's memory", "MB", "float32 matrix")
    job = {"where": where, "topic": topic, "vectors": vectors, "dimensions": dimensions}
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        async with topics(settings, partitions, topic):
            await publish(settings, vectors, vector_messages(topic, vectors, dimensions, format))
            for run in range(runs):
                path = f"{folder}/{run}.snapshot"
                reading = await ask("reading", format=format, partitions=partitions, **job)
                told = [await ask("restoring", group=f"{group}-{run}", path=path, **job) for _ in range(2)]
                read = Sample(*reading["rate"])
                if [start["from_snapshot"] for start in told] != [False, True]:
                    raise AssertionError("the snapshot was not used as it should be. This is a bug.")
                from_topic.add(Sample(*told[0]["rate"]), read)
                from_snapshot.add(Sample(*told[1]["rate"]), read)
                size.add(Sample(told[0]["bytes"] / vectors), Sample(4.0 * dimensions))
                memory.add(Sample(told[0]["peak"] / 1e6), Sample(4.0 * dimensions * vectors / 1e6))
    return [from_topic, from_snapshot, size, memory]


def space_of(dimensions: int) -> Space:
    return Space(provider="bench", model="made", dimensions=dimensions)


def vector_messages(topic: str, count: int, dimensions: int, format: OutputFormat) -> Any:
    """Vector events as a worker sends them: with a text of so many words, its sketch and form, and metadata."""
    rng = np.random.default_rng(0)
    encoder = Encoder(space=space_of(dimensions), vectors_topic=topic, dead_letters_topic="", format=format)
    made: Matrix = np.empty((0, dimensions), np.float32)

    def message(number: int) -> Message:
        nonlocal made
        if number % MADE == 0:
            made = like_texts(rng, min(MADE, count - number), dimensions)
        tp = TopicPartition("texts", 0)
        text = " ".join(f"word{word}" for word in rng.integers(VOCABULARY, size=WORDS).tolist())
        metadata = {"lang": "en", "channel": "mail", "customer": number}
        event = Event(Origin(tp, number, 0), Record(tp, number, None, b"", 0), f"event-{number}", text, metadata)
        outcome = EmbeddedEvent(event, made[number % MADE], WORDS, truncated=False, cache_hit=False)
        _, encoded = encoder.encode(outcome, 0)
        return Message(topic, encoded.key, encoded.value, encoded.headers)

    return message


async def restoring(
    *, where: Mapping[str, Any], topic: str, group: str, vectors: int, dimensions: int, path: str
) -> Any:
    """An indexer until it is ready; it leaves a snapshot, which the next one finds."""
    settings = settings_of(where)
    with runtime_for_streaming():  # as `streamer index` does
        async with open_changelog(settings, topic, group) as changelog:
            await changelog.commit(await changelog.end_offsets())  # judged before: this is about restarts
            snapshots = Snapshots(SnapshotFile(Path(path)), {"topic": topic})
            wanted = IndexerSettings(capacity=vectors)
            indexer = Indexer(changelog, _NoSink(), space_of(dimensions), wanted, snapshots)
            began, cpu = time.perf_counter(), time.process_time()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(indexer.run)
                while indexer.ready() is not None:  # noqa: ASYNC110 - readiness is a plain question
                    await anyio.sleep(0.01)
                loaded = snapshots.statistics().loaded
                rate, most = rate_since(began, cpu, vectors), peak()
                indexer.stop()
            if indexer.statistics().vectors != vectors:
                raise AssertionError(
                    f"{indexer.statistics().vectors} of {vectors} vectors were restored. This is a bug."
                )
    return {"rate": rate, "peak": most, "bytes": snapshots.statistics().bytes, "from_snapshot": loaded}


class _NoSink:
    async def send(self, messages: Any) -> Acknowledgement:
        del messages
        return _acknowledged


async def _acknowledged() -> None: ...
