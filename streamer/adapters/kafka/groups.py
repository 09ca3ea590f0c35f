"""What the brokers know of a consumer group, asked from outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.ranges import read_ranges
from streamer.adapters.kafka.records import AS_OURS
from streamer.core.events import Record, TopicPartition
from streamer.errors import Unreachable

_ANSWER_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Group:
    """`state` and `members` (their hosts) are None where the broker does not tell. `lag`: by partition with a committed
    offset, the records behind it."""

    id: str
    state: str | None
    members: Sequence[str] | None
    lag: Mapping[TopicPartition, int]


class Watcher:
    """Asks brokers, as a member of no group. Made by `watching`; its methods raise Unreachable."""

    def __init__(self, servers: str, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._servers = servers
        self._admin = admin
        self._consumer = consumer

    async def group(self, id: str) -> Group:
        """A group that does not exist has no members and no lag."""
        state, members = await self._members(id)
        mine = await self._committed(id)
        ends = await self._ask(self._consumer.end_offsets, list(mine)) if mine else {}
        lag = {TopicPartition(*tp): max(0, ends[tp] - offset) for tp, offset in mine.items()}
        return Group(id, state, members, lag)

    async def positions(self, id: str, topics: Collection[str]) -> dict[TopicPartition, tuple[int, int | None, int]]:
        """For all partitions of these topics: where the log begins, the group's committed offset (None without one),
        where the log ends."""
        tps = [ClientPartition(topic, n) for topic in topics for n in await self._partitions(topic)]
        if not tps:
            return {}
        begins = await self._ask(self._consumer.beginning_offsets, tps)
        committed = await self._committed(id)
        ends = await self._ask(self._consumer.end_offsets, tps)
        return {TopicPartition(*tp): (begins[tp], committed.get(tp), ends[tp]) for tp in tps}

    async def since(self, topic: str, timestamp: int) -> dict[TopicPartition, int]:
        """How many records each partition of the topic has from this time on, in milliseconds since the epoch."""
        tps = [ClientPartition(topic, n) for n in await self._partitions(topic)]
        if not tps:
            return {}
        ends = await self._ask(self._consumer.end_offsets, tps)
        found = await self._ask(self._consumer.offsets_for_times, dict.fromkeys(tps, timestamp))
        begins = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in tps}
        return {TopicPartition(*tp): max(0, ends[tp] - begins[tp]) for tp in tps}

    async def latest(self, counts: Mapping[TopicPartition, int], most: int) -> list[Record]:
        """The latest records of these partitions: as many as given of each, at most `most` of each."""
        wanted = {ClientPartition(*tp): min(count, most) for tp, count in counts.items() if count}
        if not wanted:
            return []
        begins = await self._ask(self._consumer.beginning_offsets, list(wanted))
        ends = await self._ask(self._consumer.end_offsets, list(wanted))
        ranges = {tp: (max(begins[tp], ends[tp] - count), ends[tp]) for tp, count in wanted.items()}
        records: list[Record] = await self._ask(read_ranges, self._consumer, ranges)
        return records

    async def _committed(self, id: str) -> dict[ClientPartition, int]:
        committed = await self._ask(self._admin.list_consumer_group_offsets, id)
        return {tp: found.offset for tp, found in committed.items() if found.offset >= 0}

    async def _partitions(self, topic: str) -> Collection[int]:
        cluster = await self._ask(self._consumer._client.fetch_all_metadata)  # noqa: SLF001  # without a subscription the client has no public way
        return sorted(cluster.partitions_for_topic(topic) or ())

    async def _members(self, id: str) -> tuple[str | None, Sequence[str] | None]:
        try:
            responses = await self._ask(self._admin.describe_consumer_groups, [id])
        except (IncompatibleBrokerVersion, NotImplementedError):
            return None, None
        for response in responses:
            for _, _, state, _, _, members, *_ in response.groups:
                return str(state) or None, [str(host).lstrip("/") for _, _, host, *_ in members]
        return None, None

    async def _ask(self, request: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Its answer. What the brokers may answer better a moment later, such as where a group's coordinator is, is
        asked again."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                while True:
                    try:
                        return await request(*args, **options)
                    except KafkaError as exc:
                        if not exc.retriable:
                            raise
                    await asyncio.sleep(_PAUSE_SECONDS)
        except IncompatibleBrokerVersion:
            raise
        except (KafkaError, TimeoutError) as exc:
            raise Unreachable(f"Kafka at {self._servers} does not answer a question: {exc!r}") from exc


@asynccontextmanager
async def watching(connection: KafkaConnection) -> AsyncIterator[Watcher]:
    """Raises Unreachable when no broker answers."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    consumer = AIOKafkaConsumer(**connection.consumer_options(), key_deserializer=AS_OURS, auto_offset_reset="earliest")
    try:
        await connection.reach(admin.start())
        await connection.reach(consumer.start())
        yield Watcher(connection.bootstrap_servers, admin, consumer)
    finally:
        with CancelScope(shield=True):
            await consumer.stop()
            await admin.close()
