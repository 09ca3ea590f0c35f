"""A topic read whole by a consumer without group membership; only the verdict position is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalStateError, KafkaError

from streamer.adapters.kafka.connection import Connection
from streamer.adapters.kafka.records import record_of
from streamer.core.events import Record, TopicPartition
from streamer.errors import RetriableError, Unreachable

log = structlog.get_logger("streamer.kafka")

COMMIT_TIMEOUT = 10.0


class KafkaChangelog:
    """A Changelog of one topic, its partitions assigned by hand; `group_id` names where `commit` stores offsets."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        group_id: str | None,
        *,
        isolation_level: str = "read_uncommitted",
        max_poll_records: int = 1000,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._max_poll_records = max_poll_records
        self._positions: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            **connection.consumer_options(),
            group_id=group_id,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )

    async def start(self, *, from_beginning: bool = True) -> None:
        """Assign every partition of the topic and go to its beginning or its end. Raises Unreachable."""
        try:
            await self._connection.reach(self._consumer.start())
            await self._connection.reach(self._assign(from_beginning))
        except BaseException:
            await self._consumer.stop()
            raise

    async def _assign(self, from_beginning: bool) -> None:
        cluster = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001  # without a subscription the client has no public way
        found = cluster.partitions_for_topic(self._topic)
        if not found:
            raise Unreachable(f"topic {self._topic!r} does not exist; create it with: streamer topics")
        tps = [ClientPartition(self._topic, partition) for partition in sorted(found)]
        self._consumer.assign(tps)
        find = self._consumer.beginning_offsets if from_beginning else self._consumer.end_offsets
        for tp, offset in (await find(tps)).items():
            self._consumer.seek(tp, offset)
            self._positions[TopicPartition(*tp)] = offset

    async def aclose(self, timeout: float = 10.0) -> None:
        try:
            await asyncio.wait_for(self._consumer.stop(), timeout)
        except (TimeoutError, KafkaError) as exc:
            log.warning("the consumer did not stop cleanly", reason=repr(exc))

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        ends = await self._consumer.end_offsets([ClientPartition(*tp) for tp in self._positions])
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    async def poll(self, timeout: float) -> Sequence[Record]:
        """Records in offset order per partition; after a client error it reads on from where it really was."""
        try:
            batches = await self._consumer.getmany(
                timeout_ms=max(1, int(timeout * 1000)), max_records=self._max_poll_records
            )
        except KafkaError as exc:
            log.warning("poll failed; reading again from the last record handed over", reason=repr(exc))
            for tp, offset in self._positions.items():
                self._consumer.seek(ClientPartition(*tp), offset)
            await asyncio.sleep(timeout)
            return []
        # After a poll without an error the client's position is ours, and it has passed what holds no records:
        # transaction markers, aborted batches, the compacted end of a log.
        for tp in self._positions:
            self._positions[tp] = await self._consumer.position(ClientPartition(*tp))
        return [record_of(record) for batch in batches.values() for record in batch]

    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to read per partition: everything before it that holds a record has been handed over."""
        return dict(self._positions)

    async def committed(self) -> Mapping[TopicPartition, int]:
        found = {}
        for tp in self._positions:
            try:
                offset = await asyncio.wait_for(self._consumer.committed(ClientPartition(*tp)), COMMIT_TIMEOUT)
            except (KafkaError, TimeoutError) as exc:
                raise Unreachable(f"committed offsets of {self._topic!r} cannot be read: {exc!r}") from exc
            if offset is not None:
                found[tp] = offset
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Raises RetriableError when the coordinator does not answer in time."""
        try:
            mine = {ClientPartition(*tp): offset for tp, offset in offsets.items()}
            await asyncio.wait_for(self._consumer.commit(mine), COMMIT_TIMEOUT)
        except (KafkaError, TimeoutError, IllegalStateError) as exc:
            raise RetriableError(f"verdict offsets not committed: {exc!r}") from exc
