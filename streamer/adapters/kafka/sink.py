"""Publishes in order, a Kafka record batch at a time: one future per batch and partition instead of one per record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from streamer.adapters.kafka.connection import Connection
from streamer.core.events import Message
from streamer.errors import Unreachable
from streamer.protocols import Acknowledgement

log = structlog.get_logger("streamer.kafka")

MAX_BATCH_BYTES = 512 * 1024


class KafkaSink:
    """A Sink. Records of one key go to one partition (murmur2, as Kafka's own clients choose it), in the order sent."""

    def __init__(self, connection: Connection, *, idempotent: bool = True, compression: str = "none") -> None:
        self._connection = connection
        self._partitioner = DefaultPartitioner()
        self._producer = AIOKafkaProducer(
            **connection.client_options(),
            enable_idempotence=idempotent,
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            compression_type=None if compression == "none" else compression,
        )

    async def start(self) -> None:
        """Raises Unreachable when no broker answers."""
        try:
            await self._connection.reach(self._producer.start())
        except BaseException:
            await self._producer.stop()  # a failed start leaves its connections and tasks behind
            raise

    async def aclose(self, timeout: float = 10.0) -> None:
        """Bounded: with the brokers away the client would wait for its buffers for ever."""
        try:
            await asyncio.wait_for(self._producer.stop(), timeout)
        except (TimeoutError, KafkaError) as exc:
            log.warning("the producer did not stop cleanly", reason=repr(exc))

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        """Enqueue in order. The acknowledgement raises Unreachable when a message cannot be delivered."""
        acks: list[asyncio.Future[Any]] = []
        try:
            partitions = {
                topic: sorted(await self._producer.partitions_for(topic)) for topic in {m.topic for m in messages}
            }
            builders: dict[tuple[str, int], Any] = {}
            for message in messages:
                choices = partitions[message.topic]
                target = (message.topic, self._partitioner(message.key, choices, choices))
                builder = builders.get(target) or self._producer.create_batch()
                if not self._append(builder, message):
                    acks.append(await self._submit(builder, target))
                    builder = self._producer.create_batch()
                    self._append(builder, message)  # an empty builder always takes one record
                builders[target] = builder
            for target, builder in builders.items():
                acks.append(await self._submit(builder, target))
        except KafkaError as exc:
            await asyncio.gather(*acks, return_exceptions=True)
            raise Unreachable(f"publishing failed: {exc!r}") from exc
        return partial(self._acknowledged, acks)

    def _append(self, builder: Any, message: Message) -> bool:
        appended = builder.append(
            timestamp=message.timestamp, key=message.key, value=message.value, headers=list(message.headers)
        )
        return appended is not None

    async def _submit(self, builder: Any, target: tuple[str, int]) -> asyncio.Future[Any]:
        builder.close()
        future: asyncio.Future[Any] = await self._producer.send_batch(builder, target[0], partition=target[1])
        return future

    async def _acknowledged(self, acks: list[asyncio.Future[Any]]) -> None:
        for result in await asyncio.gather(*acks, return_exceptions=True):
            if isinstance(result, KafkaError):
                raise Unreachable(f"the broker did not acknowledge published records: {result!r}") from result
            if isinstance(result, BaseException):
                raise result
