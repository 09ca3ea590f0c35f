"""One member of a consumer group: polls bytes, keeps its own position, tells the flow about rebalances."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from streamer.adapters.kafka.connection import Connection
from streamer.adapters.kafka.records import record_of
from streamer.core.events import Record, TopicPartition
from streamer.errors import PartitionLost, RetriableError
from streamer.protocols import Rebalance

log = structlog.get_logger("streamer.kafka")

REBALANCE_TIMEOUT_MS = 30_000  # the drain of a rebalance must fit into it
COMMIT_TIMEOUT = 10.0
# The client's own watch over poll intervals would make a worker that waits for its provider leave the group.
MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """A Source. Offsets are committed only by `commit`; records come as bytes, so that nothing is lost to decoding.

    `session_timeout`: seconds after which the group gives up a member that died without a word.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str] | re.Pattern[str],
        group_id: str,
        *,
        session_timeout: float = 45.0,
        max_poll_records: int = 1000,
        max_partition_fetch_bytes: int = 2 * 1024 * 1024,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._max_poll_records = max_poll_records
        self._rebalance: Rebalance
        self._listener_error: Exception | None = None
        self._next: dict[ClientPartition, int] = {}  # our position: what the flow has really been handed
        self._turn = 0
        self._consumer = AIOKafkaConsumer(
            **connection.consumer_options(),
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=[StickyPartitionAssignor],
            session_timeout_ms=int(session_timeout * 1000),
            heartbeat_interval_ms=min(3000, int(session_timeout * 1000 / 3)),
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            max_partition_fetch_bytes=max_partition_fetch_bytes,
        )

    async def start(self, rebalance: Rebalance) -> None:
        """Join the group. Raises Unreachable when no broker answers."""
        self._rebalance = rebalance
        if isinstance(self._topics, re.Pattern):
            self._consumer.subscribe(pattern=self._topics.pattern, listener=self)
        else:
            self._consumer.subscribe(topics=list(self._topics), listener=self)
        try:
            await self._connection.reach(self._consumer.start())
        except BaseException:
            await self._consumer.stop()  # a failed start leaves its connections and tasks behind
            raise

    async def aclose(self, timeout: float = 10.0) -> None:
        """Leave the group; bounded, since the client may be stuck in a join."""
        try:
            await asyncio.wait_for(self._consumer.stop(), timeout)
        except (TimeoutError, KafkaError) as exc:
            log.warning("the consumer did not stop cleanly", reason=repr(exc))

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        """Records of these partitions, first served in turn. After any error of the client our own position is sought
        again, because it may have moved past records that it never handed over."""
        if self._listener_error:
            error, self._listener_error = self._listener_error, None
            raise error
        wanted = [ClientPartition(*tp) for tp in sorted(tps)]
        self._turn += 1
        turn = self._turn % len(wanted)
        try:
            batches = await self._consumer.getmany(
                *wanted[turn:],
                *wanted[:turn],
                timeout_ms=max(1, int(timeout * 1000)),
                max_records=self._max_poll_records,
            )
        except KafkaError as exc:
            log.warning("poll failed; reading again from the last record handed over", reason=repr(exc))
            await self._seek_back()
            await asyncio.sleep(timeout)
            return []
        records = []
        for tp, batch in batches.items():
            if batch:
                records += [record_of(r) for r in batch]
                self._next[tp] = batch[-1].offset + 1
        return records

    async def _seek_back(self) -> None:
        for tp in self._consumer.assignment():
            try:
                offset = self._next.get(tp)
                if offset is None:
                    offset = await asyncio.wait_for(self._consumer.committed(tp), COMMIT_TIMEOUT)
                if offset is None:
                    await self._consumer.seek_to_beginning(tp)
                else:
                    self._consumer.seek(tp, offset)
            except IllegalStateError:
                continue  # taken away meanwhile: its next owner starts from the committed offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Bounded, because the client repeats retriable errors for ever."""
        owned = self._consumer.assignment()
        mine = {ClientPartition(*tp): offset for tp, offset in offsets.items() if tp in owned}
        if len(mine) < len(offsets):
            raise PartitionLost("partitions were taken away before their offsets were committed")
        try:
            await asyncio.wait_for(self._consumer.commit(mine), COMMIT_TIMEOUT)
        except (CommitFailedError, IllegalStateError) as exc:
            raise PartitionLost(f"the group has moved on: {exc}") from exc
        except TimeoutError as exc:
            raise RetriableError(f"no answer to the commit within {COMMIT_TIMEOUT:g} s") from exc
        except KafkaError as exc:
            raise RetriableError(f"commit failed: {exc!r}") from exc

    # The client only logs what a listener raises; it is kept and raised from the next poll.

    async def on_partitions_assigned(self, assigned: Collection[ClientPartition]) -> None:
        self._next.clear()
        try:
            await self._rebalance.on_assigned([TopicPartition(*tp) for tp in assigned])
        except Exception as exc:
            self._listener_error = exc
            raise

    async def on_partitions_revoked(self, revoked: Collection[ClientPartition]) -> None:
        try:
            await self._rebalance.on_revoked([TopicPartition(*tp) for tp in revoked])
        except Exception as exc:
            self._listener_error = exc
            raise
