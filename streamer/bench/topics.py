"""The topics of a bench: new ones, filled, and removed afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from streamer.adapters.kafka.topics import TopicSpec, check_topics
from streamer.app.connection import connection_of
from streamer.app.kafka import open_sink
from streamer.bench.job import text_event
from streamer.core.events import Message
from streamer.settings import Settings

PUBLISHED = 1000  # messages handed over at a time


def new_topic(what: str) -> str:
    return f"streamer-bench-{what}-{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def topics(settings: Settings, partitions: int, *names: str) -> AsyncIterator[None]:
    """These topics for as long as the block runs. Raises Unreachable."""
    from aiokafka.admin import AIOKafkaAdminClient

    connection = connection_of(settings)
    copies = settings.kafka.replication_factor
    await check_topics(connection, [TopicSpec(name, partitions, copies) for name in names], create=True)
    try:
        yield
    finally:
        with anyio.move_on_after(30, shield=True):
            admin = AIOKafkaAdminClient(**connection.client_options())
            await admin.start()
            try:
                await admin.delete_topics(list(names))
            finally:
                await admin.close()


async def publish(settings: Settings, count: int, message: Callable[[int], Message]) -> float:
    """Publish the messages 0 to `count`, acknowledged; seconds."""
    began = time.perf_counter()
    async with open_sink(settings) as sink:
        for start in range(0, count, PUBLISHED):
            acknowledged = await sink.send([message(n) for n in range(start, min(count, start + PUBLISHED))])
            await acknowledged()
    return time.perf_counter() - began


async def publish_texts(settings: Settings, topic: str, count: int) -> float:
    def message(number: int) -> Message:
        key, value = text_event(number)
        return Message(topic, key, value, ())

    return await publish(settings, count, message)
