"""Vector events and verdicts from their topics."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import ClassVar, Final, Generic, Self, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.adapters.kafka.connection import KafkaConnection, connection_to
from streamer.adapters.kafka.records import record_of
from streamer.core.events import Record
from streamer.core.vector_events import Deletion, Malformed, VectorEvent, decode_vector_event
from streamer.core.verdicts import Verdict, decode_verdict
from streamer.errors import Unreachable

T = TypeVar("T")
_COMMIT_INTERVAL: Final = 1.0


class _Consumer(ABC, Generic[T]):
    """Iterates a topic. With a `group_id`, members of the group share its partitions, and it goes on where the group
    stopped: an event counts as done when the next one is asked for, so that a crash repeats some and loses none.
    Without one, every consumer sees all of the topic, from the beginning unless `from_beginning` is False.
    """

    topic: ClassVar[str]
    """Where these are unless it is said otherwise."""

    def __init__(
        self,
        brokers: str | KafkaConnection,
        topic: str | None = None,
        *,
        group_id: str | None = None,
        from_beginning: bool = True,
    ) -> None:
        self._connection = connection_to(brokers)
        self._done: dict[ClientPartition, int] = {}
        self.malformed = 0
        """Records that were passed over because they could not be read."""
        self._consumer = AIOKafkaConsumer(
            topic or self.topic,
            **self._connection.consumer_options(),
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if from_beginning else "latest",
        )
        self._commits = group_id is not None

    async def __aenter__(self) -> Self:
        try:
            await self._connection.reach(self._consumer.start())
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                await self._commit()
        finally:
            await self._consumer.stop()

    async def __aiter__(self) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        due = loop.time() + _COMMIT_INTERVAL
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=200)
            except KafkaError as exc:
                raise Unreachable(f"the topic cannot be read: {exc!r}") from exc
            for tp, records in batches.items():
                for record in records:
                    found = self._decode(record_of(record))
                    if isinstance(found, Malformed):
                        self.malformed += 1
                    else:
                        yield found
                    self._done[tp] = record.offset + 1
                    if loop.time() >= due:
                        await self._commit()
                        due = loop.time() + _COMMIT_INTERVAL
            if loop.time() >= due:
                await self._commit()
                due = loop.time() + _COMMIT_INTERVAL

    @abstractmethod
    def _decode(self, record: Record) -> T | Malformed: ...

    async def _commit(self) -> None:
        mine = self._consumer.assignment()
        offsets = {tp: offset for tp, offset in self._done.items() if tp in mine}
        self._done.clear()
        if not self._commits or not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except CommitFailedError:
            pass  # the group has moved on: whoever has these partitions now reads the events again
        except KafkaError as exc:
            raise Unreachable(f"offsets cannot be committed: {exc!r}") from exc


class VectorConsumer(_Consumer[VectorEvent | Deletion]):
    """Vector events, in either format, and deletions."""

    topic = "vectors"

    def _decode(self, record: Record) -> VectorEvent | Deletion | Malformed:
        return decode_vector_event(record)


class VerdictConsumer(_Consumer[Verdict]):
    """Verdicts."""

    topic = "verdicts"

    def _decode(self, record: Record) -> Verdict | Malformed:
        return decode_verdict(record)
