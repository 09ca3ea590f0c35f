"""What saving a snapshot costs: `python -m tests.bench.snapshot --broker 127.0.0.1:9092`.

With `OPENBLAS_NUM_THREADS=1`, which `streamer` sets for itself.

A vector topic is filled, then read by an indexer that saves a snapshot while it follows. How long a start takes from
either is what `streamer bench restore` measures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import psutil

from streamer.adapters.snapshot_file import SnapshotFile
from streamer.app.kafka import open_changelog
from streamer.bench.restore import space_of, vector_messages
from streamer.bench.topics import new_topic, publish, topics
from streamer.core.events import Message
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.protocols import Acknowledgement
from streamer.settings import Settings

PARTITIONS = 4


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
async def indexing(indexer: Indexer) -> AsyncIterator[None]:
    """From when it is ready."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(indexer.run)
        while indexer.ready() is not None:  # noqa: ASYNC110 - readiness is a plain question
            await anyio.sleep(0.001)
        yield
        indexer.stop()


async def measure(broker: str, count: int, dimensions: int, folder: Path) -> dict[str, Any]:
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": broker}})
    topic = new_topic("vectors")
    async with topics(settings, PARTITIONS, topic):
        await publish(settings, count, vector_messages(topic, count, dimensions, "binary"))
        async with open_changelog(settings, topic, new_topic("group")) as changelog:
            await changelog.commit(await changelog.end_offsets())  # judged before: this is not about verdicts
            snapshots = Snapshots(SnapshotFile(folder / "index.snapshot"), {"topic": topic})
            indexer = Indexer(changelog, NoSink(), space_of(dimensions), IndexerSettings(capacity=count), snapshots)
            async with indexing(indexer):
                return {"vectors": count, "dimensions": dimensions, **await save(indexer, snapshots)}


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
