"""The job of a bench on a broker: its topics, its texts, and a provider that costs nothing."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import orjson

from streamer.adapters.kafka.topics import TopicSpec, check_topics
from streamer.app.kafka import connection_of, open_sink
from streamer.core.events import Message
from streamer.core.vectors import Matrix, Purpose, Space, unit_rows
from streamer.protocols import Embedding, Rejection
from streamer.settings import Settings, load_settings

POOL = 4096  # vectors that are used again and again
PUBLISHED = 1000  # messages handed over at a time


def settings_of(where: Mapping[str, Any]) -> Settings:
    """`where`: `config`, the path of a file or None, and `overrides`, values by `section.key`."""
    config = where.get("config")
    return load_settings(Path(config) if config else None, os.environ, where.get("overrides", {}))


class Stub:
    """A provider whose vectors cost nothing and take `seconds`: what is left is the worker's own."""

    def __init__(self, dimensions: int, seconds: float = 0.0) -> None:
        self.space = Space(provider="stub", model="stub", dimensions=dimensions)
        self.vectors = pool(dimensions)
        self._seconds = seconds

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        del purpose
        if self._seconds:
            await anyio.sleep(self._seconds)
        else:
            await anyio.lowlevel.checkpoint()
        return [Embedding(self.vectors[n % POOL], 5, False) for n in range(len(texts))]


def pool(dimensions: int) -> Matrix:
    """The same in every process."""
    return unit_rows(np.random.default_rng(0).standard_normal((POOL, dimensions)))


def text_event(number: int) -> tuple[bytes, bytes]:
    """Key and value of the text topic's n-th record."""
    return b"%d" % number, orjson.dumps({"text": f"event {number} says hello to the world", "n": number})


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
