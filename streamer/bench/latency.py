"""How long an event takes from a producer until a consumer has its vector: idle, and at shares of the maximum."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from anyio.abc import TaskGroup

from streamer.adapters.kafka.partitioning import partition_indices
from streamer.app.connection import connection_of
from streamer.app.kafka import open_sink
from streamer.bench.child import answer_of, started
from streamer.bench.figures import Figure, Sample, percentile
from streamer.bench.job import settings_of, text_event
from streamer.bench.topics import new_topic, topics
from streamer.core.events import Message
from streamer.protocols import Acknowledgement, Sink
from streamer.settings import Settings
from streamer.worker.vector_messages import OutputFormat

SHARES = (1, 10, 50, 80)  # percent of the maximum
TICK = 0.002  # seconds: events that are due are published so often
PATIENCE = 60.0  # seconds for what is still on its way
QUIET = 2.0  # seconds without a vector
ALONE = 40  # events, one after the other, on an idle system
BETWEEN = 0.1  # seconds
BURST = 500  # events handed over at a time
WATCHED = 0  # the partition that is read: a fair sample, and it leaves the processors to the worker


async def measure_latency(
    *,
    runs: int,
    events: int,
    seconds: float,
    dimensions: int,
    format: OutputFormat,
    partitions: int,
    provider_ms: float,
    where: Mapping[str, Any],
) -> list[Figure]:
    """`events`: of a burst, which shows the maximum; then each share of it is offered for so many `seconds`.

    Beside an event on an idle system there is a record that no worker has to do with: what its way through the broker
    takes on this machine, an event takes twice.
    """
    settings = settings_of(where)
    linger = settings.batch.linger_ms
    least = linger + provider_ms
    maximum = Figure("maximum", "events/s")
    alone = {share: Figure(f"idle, p{share}", "ms", "linger and provider") for share in (50, 99)}
    bare = Figure("idle, a record from producer to consumer, p50", "ms")
    loaded = {
        share: (Figure(f"at {share} % of the maximum, p50", "ms", "linger and provider"),
                Figure(f"at {share} % of the maximum, p99", "ms", "three times p50 and linger"))
        for share in SHARES
    }  # fmt: skip
    stages: dict[str, Figure] = {}
    for _ in range(runs):
        async with _Load.open(settings, where, partitions, dimensions, format, provider_ms / 1000) as load:
            await load.alone(3, load.topic)  # what happens only once happens now
            found = await load.alone(ALONE, load.topic)
            for share, figure in alone.items():
                figure.add(Sample(percentile(found, share / 100)), Sample(least))
            bare.add(Sample(percentile(await load.alone(ALONE, load.target), 0.5)))  # past the worker
            rate = await load.burst(events)
            maximum.add(Sample(rate))
            for share, (middle, late) in loaded.items():
                offered = rate * share / 100
                found = await load.steadily(offered, max(20, round(offered * seconds)))
                p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
                middle.add(Sample(p50), Sample(least))
                late.add(Sample(p99), Sample(3 * p50 + linger))
        for name, mean in load.stages.items():
            stages.setdefault(name, Figure(f"stage {name}, mean", "ms")).add(Sample(1000 * mean))
    return [*alone.values(), bare, maximum, *(figure for pair in loaded.values() for figure in pair), *stages.values()]


class _Load:
    """Publishes texts and notes when the vectors of one partition come."""

    def __init__(self, topic: str, target: str, partitions: int, sink: Sink, vectors: Any, tasks: TaskGroup) -> None:
        self.stages: Mapping[str, float] = {}
        self.topic = topic
        self.target = target
        self._vectors = vectors
        self._tasks = tasks
        self._partitions = partitions
        self._sink = sink
        self._came: dict[bytes, float] = {}
        self._number = 0
        self._news = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        where: Mapping[str, Any],
        partitions: int,
        dimensions: int,
        format: OutputFormat,
        provider_seconds: float,
    ) -> AsyncIterator[_Load]:
        """With a worker of its own beside it."""
        source, target = new_topic("texts"), new_topic("vectors")
        job = {"topic": source, "target": target, "format": format, "dimensions": dimensions}
        async with (
            topics(settings, partitions, source, target),
            started("worker", where=where, provider_seconds=provider_seconds, **job) as worker,
            open_sink(settings) as sink,
            _watching(settings, target) as vectors,
        ):
            async with anyio.create_task_group() as tasks:
                load = cls(source, target, partitions, sink, vectors, tasks)
                tasks.start_soon(load._read)
                yield load
                tasks.cancel_scope.cancel()
            worker.send_signal(signal.SIGTERM)
            load.stages = (await answer_of("worker", worker))["stages"]

    async def _read(self) -> None:
        while True:
            for records in (await self._vectors.getmany(timeout_ms=500)).values():
                now = time.perf_counter()
                self._came.update((record.key, now) for record in records)
            self._news.set()
            self._news = anyio.Event()

    async def _publish(self, count: int, topic: str) -> None:
        messages = []
        for number in range(self._number, self._number + count):
            key, value = text_event(number)
            messages.append(Message(topic, key, value, ()))
        self._number += count
        self._tasks.start_soon(_seen, await self._sink.send(messages))

    async def _times(self, first: int, count: int) -> dict[int, float]:
        """When those came that can be seen, by number."""
        keys = [b"%d" % number for number in range(first, first + count)]
        places = partition_indices(keys, self._partitions)
        seen = [key for key, place in zip(keys, places, strict=True) if place == WATCHED]
        with anyio.fail_after(PATIENCE):
            for key in seen:
                while key not in self._came:
                    await self._news.wait()
        return {int(key): self._came.pop(key) for key in seen}

    async def _settled(self) -> None:
        """Wait for the vectors of the other partitions, too.

        The embedded broker tells ends that lie before the last records: so when nothing comes any more, that is all.
        """
        everywhere = [TopicPartition(self.target, partition) for partition in range(self._partitions)]
        came, changed = -1, time.perf_counter()
        while came < self._number and time.perf_counter() - changed < QUIET:
            now = sum((await self._vectors.end_offsets(everywhere)).values())
            if now != came:
                came, changed = now, time.perf_counter()
            await anyio.sleep(TICK)

    async def alone(self, count: int, topic: str) -> list[float]:
        """Milliseconds of an event on an idle system, from when it is published."""
        published: dict[int, float] = {}
        for number in range(self._number, self._number + count):
            await anyio.sleep(BETWEEN)
            published[number] = time.perf_counter()
            await self._publish(1, topic)
        times = await self._times(next(iter(published)), count)
        await self._settled()
        return [1000 * (came - published[number]) for number, came in times.items()]

    async def steadily(self, rate: float, count: int) -> list[float]:
        """Milliseconds of an event, from when it was due; so many a second."""
        first, began = self._number, time.perf_counter()
        while (sent := self._number - first) < count:
            due = min(count, int((time.perf_counter() - began) * rate) + 1)
            if due > sent:
                await self._publish(due - sent, self.topic)
            else:
                await anyio.sleep(max(TICK, began + sent / rate - time.perf_counter()))
        times = await self._times(first, count)
        await self._settled()
        return [1000 * (came - (began + (number - first) / rate)) for number, came in times.items()]

    async def burst(self, count: int) -> float:
        """Vectors a second while more is published than the worker can do."""
        first, began = self._number, time.perf_counter()
        while self._number - first < count:
            await self._publish(min(BURST, count - (self._number - first)), self.topic)
        came = sorted((await self._times(first, count)).values())
        await self._settled()
        tenth = len(came) // 10  # the first ones came before a backlog had built up
        if came[tenth] == came[-1]:  # too few for a backlog
            return count / (came[-1] - began)
        return self._partitions * (len(came) - 1 - tenth) / (came[-1] - came[tenth])


async def _seen(acknowledged: Acknowledgement) -> None:
    """A sink keeps what nobody awaits."""
    await acknowledged()


@asynccontextmanager
async def _watching(settings: Settings, topic: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(**connection_of(settings).consumer_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        watched = TopicPartition(topic, WATCHED)
        consumer.assign([watched])
        consumer.seek(watched, 0)
        yield consumer
    finally:
        await consumer.stop()
