"""The reading end of the worker: one member of a consumer group that skips nothing, whatever the client does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from streamer.adapters.kafka.assignment import Assignment
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts, Diagnosis, cause_of_death
from streamer.adapters.kafka.membership import REBALANCE_TIMEOUT, Membership
from streamer.adapters.kafka.positions import Positions
from streamer.adapters.kafka.records import AS_OURS, records_in
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.core.events import Record, TopicPartition
from streamer.errors import Unreachable
from streamer.protocols import Rebalance
from streamer.telemetry.waiting import Waiting

log = structlog.get_logger(__name__)

# The client's own watch over poll intervals would make a worker that waits for its provider leave the group.
MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatistics:
    """What the client went through since the start."""

    poll_failures_total: int = field(
        metadata={"help": "Polls that failed; reading resumed at the last record handed over."}
    )
    consumers_replaced_total: int = field(metadata={"help": "Consumers replaced because they were stuck or dead."})
    partitions_restarted_total: int = field(metadata={"help": "Partitions taken up again from their committed offset."})
    deleted_offsets_total: int = field(metadata={"help": "Offsets that retention deleted before they were read."})
    truncations_total: int = field(
        metadata={"help": "Logs that ended before our position and are read from their beginning."}
    )
    unreadable_records_total: int = field(
        metadata={"help": "Records that cannot be read whole, stepped over and dead-lettered by their coordinates."}
    )
    unreadable_partitions: int = field(metadata={"help": "Partitions paused now because reading them fails."})


class KafkaSource:
    """A Source. Offsets are committed only by `commit`; records come as bytes, so that nothing is lost to decoding.

    `watch` has to run beside it: it replaces a consumer that is stuck or dead. `session_timeout`: seconds after which
    the group gives up a member that died without a word. `instance_id`: static membership. `transactions`: commit
    through them.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Sequence[str] | re.Pattern[str],
        group_id: str,
        *,
        session_timeout: float = 45.0,
        instance_id: str | None = None,
        isolation_level: str = "read_uncommitted",
        transactions: KafkaTransactions | None = None,
        max_poll_records: int = 1000,
        max_partition_fetch_bytes: int = 2 * 1024 * 1024,
        timeouts: ConsumerTimeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = {
            **connection.consumer_options(),
            "key_deserializer": AS_OURS,
            "group_id": group_id,
            "group_instance_id": instance_id,
            "isolation_level": isolation_level,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # we decide, and count what is gone
            # Exactly one: with two the client joins twice and waits for itself.
            "partition_assignment_strategy": [StickyPartitionAssignor],
            "session_timeout_ms": int(session_timeout * 1000),
            "heartbeat_interval_ms": min(3000, int(session_timeout * 1000 / 3)),
            "rebalance_timeout_ms": int(REBALANCE_TIMEOUT * 1000),
            "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
            "max_partition_fetch_bytes": max_partition_fetch_bytes,
        }
        self._topics = topics
        self._transactions = transactions
        self._max_poll_records = max_poll_records
        self._timeouts = timeouts or ConsumerTimeouts()
        self._positions = Positions(self._timeouts.step)
        self._assignment = Assignment(self._positions, transactions, self._timeouts, clock)
        self._membership = Membership(connection, topics, options, self._assignment, self._timeouts)
        self._poll_failures = 0
        self._unreadable_records = 0

    def __repr__(self) -> str:
        topics = self._topics.pattern if isinstance(self._topics, re.Pattern) else ", ".join(self._topics)
        consumer = self._membership.consumer
        owned = (
            sorted(str(TopicPartition(*tp)) for tp in consumer.assignment()) if consumer is not None else "no client"
        )
        return f"<KafkaSource of {topics}: {owned}, generation {self._positions.generation}, {self.state() or 'well'}>"

    async def start(self, rebalance: Rebalance) -> None:
        """Join the group. Raises Unreachable when no broker answers."""
        self._assignment.rebalance = rebalance
        await self._membership.join()

    async def aclose(self, timeout: float = 5.0) -> None:
        """Leave the group, in at most about this time."""
        if self._transactions is not None:
            await self._transactions.end(self._transactions.partitions)
        await self._membership.leave(timeout)

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        """Records of these partitions, first served in turn. After any error of the client our own position is sought
        again, because it may have moved past records that it never handed over (Java's had the same, KAFKA-5075)."""
        self._membership.raise_error()
        generation = self._positions.generation
        consumer, given_up = self._membership.consumer, self._membership.given_up
        wanted = self._assignment.readable(tps)
        if not wanted or given_up.is_set():
            await asyncio.sleep(timeout)
            return []
        await self._assignment.drop_outdated(consumer, wanted)
        self._assignment.asked(wanted)
        getting = asyncio.ensure_future(
            consumer.getmany(*wanted, timeout_ms=max(1, int(timeout * 1000)), max_records=self._max_poll_records)
        )
        leaving = asyncio.ensure_future(given_up.wait())
        try:
            # Its result is dropped only together with its consumer: it has moved the consumer's position.
            await asyncio.wait([getting, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not getting.done():
                getting.cancel()
        if not getting.done():
            return []  # given up
        # The client's own task may have been cancelled, and its error is then handed on.
        error = KafkaError("cancelled") if getting.cancelled() else getting.exception()
        if generation != self._positions.generation:
            if error is not None or getting.result():
                await self._assignment.seek_back(consumer)
            return []
        if error is not None:
            await self._survive(consumer, wanted, error, timeout)
            return []
        batches = {tp: batch for tp, batch in getting.result().items() if batch}
        self._assignment.handed_over(wanted, {tp: batch[-1].offset + 1 for tp, batch in batches.items()})
        records = records_in(batches)
        self._unreadable_records += sum([record.unreadable is not None for record in records])
        return records

    async def _survive(
        self, consumer: Any, wanted: Sequence[ClientPartition], error: BaseException, pause: float
    ) -> None:
        """An error of the client's while it read these partitions: nothing of it may be lost, nor hold up the rest."""
        if isinstance(error, NoOffsetForPartitionError):
            await self._positions.begin(consumer, error.args[0])
            return
        self._poll_failures += 1
        log.warning("poll failed; reading again from the last record handed over", reason=repr(error))
        if isinstance(error, OffsetOutOfRangeError):
            self._assignment.restart(await self._positions.find_the_log(consumer, error.args[0]))
        elif cause_of_death(consumer) is not None:
            self._assignment.wake.set()
        else:
            self._assignment.failed(wanted, error)
        await self._assignment.seek_back(consumer)
        await asyncio.sleep(pause)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self._transactions is not None:
            await self._transactions.commit(offsets)
        else:
            await self._membership.commit(offsets)

    async def watch(self) -> NoReturn:
        """Runs beside the flow for as long as it does. Raises Unreachable when an input topic has been deleted."""
        topics = () if isinstance(self._topics, re.Pattern) else self._topics
        while True:
            await self._news()
            self._membership.raise_error()
            await self._assignment.take_up_again(self._membership.consumer)
            if await self._assignment.check(self._membership.consumer, topics) is Diagnosis.SICK:
                await self._membership.replace()

    async def _news(self) -> None:
        """Until there is something to do, or it is time to look."""
        events = [self._assignment.wake] + ([self._transactions.changed] if self._transactions else [])
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=self._timeouts.interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        for event in events:
            event.clear()

    def state(self) -> str | None:
        """Why records are not coming in, in words for a person; None when they are, or when there are none."""
        return self._membership.joining or self._assignment.problem

    def waits(self) -> list[Waiting]:
        """The same, as one word each and with its end."""
        joining = self._membership.joining
        return ([Waiting("group", joining)] if joining else []) + self._assignment.waits()

    async def end_offsets(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where the logs of these partitions end. Raises Unreachable when no broker tells in time."""
        consumer = self._membership.consumer
        if consumer is None or self._membership.joining:
            raise Unreachable("there is no member of the group just now")
        try:
            asking = consumer.end_offsets([ClientPartition(*tp) for tp in tps])
            ends = await asyncio.wait_for(asking, self._timeouts.request)
        except (KafkaError, TimeoutError) as exc:
            raise Unreachable(f"the ends of the partitions cannot be read: {exc!r}") from exc
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    async def committed(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """What the group has committed of these, or where they begin. Raises Unreachable when no broker tells
        in time."""
        consumer = self._membership.consumer
        if consumer is None:
            raise Unreachable("there is no member of the group just now")
        try:
            found = {tp: await self._positions.committed(consumer, ClientPartition(*tp)) for tp in tps}
            unknown = [ClientPartition(*tp) for tp, offset in found.items() if offset is None]
            first = await consumer.beginning_offsets(unknown) if unknown else {}
            return {tp: first[ClientPartition(*tp)] if offset is None else offset for tp, offset in found.items()}
        except (KafkaError, TimeoutError, IllegalStateError) as exc:
            raise Unreachable(f"the committed offsets cannot be read: {exc!r}") from exc

    def statistics(self) -> SourceStatistics:
        return SourceStatistics(
            poll_failures_total=self._poll_failures,
            consumers_replaced_total=self._membership.replaced_total,
            partitions_restarted_total=self._assignment.restarts_total,
            deleted_offsets_total=self._positions.deleted_offsets_total,
            truncations_total=self._positions.truncations_total,
            unreadable_records_total=self._unreadable_records,
            unreadable_partitions=self._assignment.unreadable_partitions,
        )
