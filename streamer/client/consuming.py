"""Vector events and verdicts from their topics."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import ClassVar, Final, Generic, Self, TypeVar

from streamer.adapters.kafka.connection import KafkaConnection, connection_to
from streamer.adapters.kafka.subscription import KafkaSubscription
from streamer.core.events import Record, TopicPartition
from streamer.core.vector_events import Deletion, Malformed, VectorEvent, decode_vector_event
from streamer.core.verdicts import Verdict, decode_verdict

T = TypeVar("T")
_COMMIT_INTERVAL: Final = 1.0
_POLL_TIMEOUT: Final = 0.2


class _Consumer(ABC, Generic[T]):
    topic: ClassVar[str]
    """The topic when the constructor names none."""

    def __init__(
        self,
        brokers: str | KafkaConnection,
        topic: str | None = None,
        *,
        group_id: str | None = None,
        from_beginning: bool = True,
    ) -> None:
        """`brokers`: "host:port", several separated by commas, or a KafkaConnection with credentials."""
        self._subscription = KafkaSubscription(
            connection_to(brokers), topic or self.topic, group_id=group_id, from_beginning=from_beginning
        )
        self._done: dict[TopicPartition, int] = {}
        self.malformed = 0
        """How many records were skipped because they could not be decoded."""

    async def __aenter__(self) -> Self:
        await self._subscription.start()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                await self._commit()
        finally:
            await self._subscription.aclose()

    async def __aiter__(self) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        due = loop.time() + _COMMIT_INTERVAL
        while True:
            for record in await self._subscription.poll(_POLL_TIMEOUT):
                found = self._decode(record)
                if isinstance(found, Malformed):
                    self.malformed += 1
                else:
                    yield found
                self._done[record.tp] = record.offset + 1
                if loop.time() >= due:
                    await self._commit()
                    due = loop.time() + _COMMIT_INTERVAL
            if loop.time() >= due:
                await self._commit()
                due = loop.time() + _COMMIT_INTERVAL

    @abstractmethod
    def _decode(self, record: Record) -> T | Malformed: ...

    async def _commit(self) -> None:
        offsets, self._done = self._done, {}
        await self._subscription.commit(offsets)


class VectorConsumer(_Consumer[VectorEvent | Deletion]):
    """Iterates over the vector topic: a VectorEvent for each vector, in either format, and a Deletion for each
    tombstone.

    Use it as an async context manager. With a `group_id`, the members of the group share the partitions and continue
    where the group stopped: an event counts as done when the next one is requested, so a crash repeats some events and
    loses none. Without a `group_id`, every consumer reads the whole topic, from the beginning unless `from_beginning`
    is False. Raises Unreachable when Kafka does not answer.
    """

    topic = "vectors"

    def _decode(self, record: Record) -> VectorEvent | Deletion | Malformed:
        return decode_vector_event(record)


class VerdictConsumer(_Consumer[Verdict]):
    """Iterates over the verdict topic, a Verdict for each event. Groups, starting point and errors as in
    VectorConsumer.

    `SearchClient.verdicts` needs no Kafka, but shows only new verdicts and drops those that come too fast.
    """

    topic = "verdicts"

    def _decode(self, record: Record) -> Verdict | Malformed:
        return decode_verdict(record)
