"""A topic read by a program of the user's own: subscribed in a consumer group, or alone and whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.records import AS_OURS, records_in
from streamer.core.events import Record, TopicPartition
from streamer.errors import Unreachable


class KafkaSubscription:
    """Records of one topic. With a `group_id`, its members share the partitions and `commit` stores their offsets;
    without one, the subscription reads every partition and remembers nothing.

    `from_beginning`: where to start when no offset is committed; False starts at the end.
    """

    def __init__(
        self, connection: KafkaConnection, topic: str, *, group_id: str | None = None, from_beginning: bool = True
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._group_id = group_id
        self._consumer = AIOKafkaConsumer(
            topic,
            **connection.consumer_options(),
            key_deserializer=AS_OURS,
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if from_beginning else "latest",
        )

    async def start(self) -> None:
        """Raises Unreachable when no broker answers in time."""
        try:
            await self._connection.reach(self._consumer.start())
        except BaseException:
            await self._consumer.stop()
            raise

    async def aclose(self) -> None:
        await self._consumer.stop()

    async def poll(self, timeout: float) -> Sequence[Record]:
        """Records in offset order per partition; none after `timeout` seconds. Raises Unreachable when Kafka refuses
        to let the topic be read."""
        try:
            batches = await self._consumer.getmany(timeout_ms=int(timeout * 1000))
        except KafkaError as exc:
            raise Unreachable(f"topic {self._topic!r} cannot be read: {exc!r}") from exc
        return records_in(batches)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offsets to read, of the partitions that are still assigned. Raises Unreachable.

        After a rebalance the new owner of a partition reads it again from the last commit, so a refused commit is no
        error here.
        """
        assigned = self._consumer.assignment()
        mine = {tp: offset for name, offset in offsets.items() if (tp := ClientPartition(*name)) in assigned}
        if self._group_id is None or not mine:
            return
        try:
            await self._consumer.commit(mine)
        except CommitFailedError:
            pass  # the group has rebalanced; see above
        except KafkaError as exc:
            raise Unreachable(f"offsets of {self._topic!r} cannot be committed: {exc!r}") from exc
