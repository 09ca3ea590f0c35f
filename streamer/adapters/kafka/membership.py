"""A place in a consumer group, kept by one client after another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, InvalidSessionTimeoutError, KafkaError
from anyio import CancelScope

from streamer.adapters.kafka.assignment import Assignment
from streamer.adapters.kafka.commits import commit_offsets
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts, leave
from streamer.adapters.kafka.joining import join
from streamer.core.events import TopicPartition
from streamer.errors import ConfigurationError, PartitionLost, RetriableError, Unreachable

log = structlog.get_logger(__name__)

REBALANCE_TIMEOUT = 30.0  # the drain of a rebalance must fit into it


class Membership:
    """`consumer` is the client of now, None while it is being replaced; `given_up` is set when it is over with it.
    `joining`: since when, and what the group is doing meanwhile.

    Its listener passes on what the group decides; an error of the flow in it, which the client would only log, comes
    out of `raise_error`.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Sequence[str] | re.Pattern[str],
        options: Mapping[str, Any],
        assignment: Assignment,
        timeouts: ConsumerTimeouts,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._options = options
        self._assignment = assignment
        self._timeouts = timeouts
        self.consumer: Any = None
        self.given_up = asyncio.Event()
        self.error: Exception | None = None
        self.replaced_total = 0
        self.joining: str | None = None  # what it waits for

    async def join(self) -> None:
        """Raises Unreachable when no broker answers, ConfigurationError when the group refuses such members."""
        consumer = self.consumer = AIOKafkaConsumer(**self._options)
        self.given_up = asyncio.Event()
        listener = _Listener(self, consumer, self._assignment)
        if isinstance(self._topics, re.Pattern):
            consumer.subscribe(pattern=self._topics.pattern, listener=listener)
        else:
            consumer.subscribe(topics=list(self._topics), listener=listener)
        try:
            await join(self._connection, consumer, self._tell)
        except BaseException as exc:
            with CancelScope(shield=True):  # a failed start leaves its connections and tasks behind
                await leave(consumer, self._timeouts.goodbye)
            if isinstance(exc.__cause__, InvalidSessionTimeoutError):
                raise ConfigurationError(
                    f"kafka.session_timeout_ms = {self._options['session_timeout_ms']} is not what the brokers allow: "
                    "see their group.min.session.timeout.ms and group.max.session.timeout.ms"
                ) from exc
            raise

    def _tell(self, waits: str | None) -> None:
        self.joining = waits

    async def leave(self, timeout: float) -> None:
        """Bounded, since the client may be stuck in a join."""
        if self.consumer is not None:
            await leave(self.consumer, timeout)

    async def replace(self) -> None:
        """Another client instead of one that is stuck or dead, however long it takes to reach a broker."""
        log.error("replacing the consumer", reason=self._assignment.problem)
        self.replaced_total += 1
        old = self.consumer
        await self._assignment.revoked(old.assignment())
        self.consumer = None  # its last words to the listener are not ours any more
        self.given_up.set()
        await leave(old, self._timeouts.step)
        while True:
            try:
                await self.join()
                return
            except Unreachable as exc:
                self._assignment.report(str(exc))
                await asyncio.sleep(self._timeouts.pause)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Raises PartitionLost when the group has moved on, RetriableError when the coordinator does not answer."""
        owned = self.consumer.assignment() if self.consumer is not None else ()
        mine = {ClientPartition(*tp): offset for tp, offset in offsets.items() if tp in owned}
        if len(mine) < len(offsets):
            raise PartitionLost("partitions were taken away before their offsets were committed")
        try:
            await commit_offsets(self.consumer, mine, self._timeouts.step)
        except (CommitFailedError, IllegalStateError) as exc:
            raise PartitionLost(f"the group has moved on: {exc}") from exc
        except TimeoutError as exc:
            raise RetriableError(f"no answer to the commit within {self._timeouts.step:g} s") from exc
        except KafkaError as exc:
            raise RetriableError(f"commit failed: {exc!r}") from exc

    def raise_error(self) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """Of one consumer: one that has been given up may not have noticed yet."""

    def __init__(self, membership: Membership, consumer: Any, assignment: Assignment) -> None:
        self._membership = membership
        self._consumer = consumer
        self._assignment = assignment

    async def on_partitions_assigned(self, assigned: Collection[ClientPartition]) -> None:
        if self._consumer is self._membership.consumer:
            try:
                await self._assignment.assigned(assigned)
            except Exception as exc:
                self._membership.error = exc
                raise

    async def on_partitions_revoked(self, revoked: Collection[ClientPartition]) -> None:
        if self._consumer is self._membership.consumer:
            try:
                await self._assignment.revoked(revoked)
            except Exception as exc:
                self._membership.error = exc
                raise
