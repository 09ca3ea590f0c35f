"""The one place in a consumer group: of all that ask for it one has it, and only the commits of that one count.

The member that has it gets all partitions from the group, every other member none. Kafka counts heartbeats, so a holder
that was killed loses the place after its session, and one that lives keeps it. A commit of somebody who has lost the
place is refused by the group's coordinator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import InvalidSessionTimeoutError
from anyio import CancelScope

from streamer.adapters.kafka.commits import commit_offsets
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import cause_of_death, leave
from streamer.adapters.kafka.joining import join, members_of
from streamer.errors import ConfigurationError, Unreachable

log = structlog.get_logger(__name__)

_REBALANCE_SECONDS: Final = 10.0
_NEVER_MS: Final = 10**12  # the client would leave a group whose records nobody polls
_NOBODY: Final = 2**64


class OneHolder(AbstractPartitionAssignor):  # type: ignore[misc]  # the client ships no types
    """Gives everything to the member that has held it longest, or to one of those that never did.

    `is_member`: whether the group knows us still. One that it has forgotten holds nothing any more, whatever it thinks.
    """

    name = "streamer-one-holder"

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.is_member: Callable[[], bool] = lambda: False
        self._clock = clock
        self._since = 0  # nanoseconds since the epoch; 0 without the place

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        since = self._since if self.is_member() else 0
        return ConsumerProtocolMemberMetadata(0, sorted(topics), since.to_bytes(8, "big"))

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        holder = min(members, key=lambda id: (int.from_bytes((members[id].user_data or b"")[:8], "big") or _NOBODY, id))
        everything = [
            (topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in members[holder].subscription
        ]
        return {id: ConsumerProtocolMemberAssignment(0, everything if id == holder else [], b"") for id in members}

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._since = (self._since or self._clock()) if assignment.partitions() else 0


class Seat(ConsumerRebalanceListener):  # type: ignore[misc]
    """The place in the group `group_id`, taken in the name of `topic`. `session_timeout`: seconds after which a holder
    that was killed has lost it."""

    rebalance_seconds = _REBALANCE_SECONDS

    def __init__(self, connection: KafkaConnection, topic: str, group_id: str, *, session_timeout: float) -> None:
        self._connection = connection
        self._topic = topic
        self._group_id = group_id
        self._session_timeout = session_timeout
        self._consumer: Any = None
        self._is_ours = False
        self.waits: str | None = None  # for whom it waits

    def assignor(self) -> Any:
        """Who decides what the members get."""
        return OneHolder()

    async def take(self) -> None:
        """Raises ConfigurationError when somebody else has it, and Unreachable."""
        assignor = self.assignor()
        consumer = self._consumer = AIOKafkaConsumer(
            **self._connection.consumer_options(),
            group_id=self._group_id,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            partition_assignment_strategy=[assignor],
            session_timeout_ms=int(self._session_timeout * 1000),
            heartbeat_interval_ms=int(self._session_timeout * 1000 / 6),
            rebalance_timeout_ms=int(self.rebalance_seconds * 1000),
            max_poll_interval_ms=_NEVER_MS,
        )
        if isinstance(assignor, OneHolder):
            assignor.is_member = lambda: bool(consumer._coordinator.member_id)  # noqa: SLF001
        consumer.subscribe(topics=[self._topic], listener=self)
        try:
            await join(self._connection, consumer, self._tell)
            if not self._is_ours:
                others = await members_of(consumer)
                raise ConfigurationError(self._taken(others))
        except BaseException as exc:
            with CancelScope(shield=True):
                await self.aclose(1.0)
            if isinstance(exc.__cause__, InvalidSessionTimeoutError):
                raise ConfigurationError(
                    f"the brokers do not allow sessions of {self._session_timeout:g} s: see their "
                    "group.min.session.timeout.ms, and kafka.session_timeout_ms"
                ) from exc
            raise

    def _taken(self, others: Iterable[str]) -> str:
        where = ", ".join(sorted(others)) or "unknown"
        return (
            f"another indexer is at work for the group {self._group_id!r} (its address: {where}): two would publish "
            "each verdict twice. Stop it, or give this one a kafka.group_id and topics.verdicts of its own"
        )

    def _tell(self, waits: str | None) -> None:
        self.waits = waits

    async def aclose(self, timeout: float) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await leave(consumer, timeout)

    def check(self) -> None:
        """Raises Unreachable when the place is lost."""
        if self._consumer is None:
            raise Unreachable(f"the place in the group {self._group_id!r} has been given up")
        death = cause_of_death(self._consumer)
        if death is not None:
            raise Unreachable(f"the place in the group {self._group_id!r} is lost: {death}")
        if not self._is_ours:
            raise Unreachable(
                f"another indexer has taken over the group {self._group_id!r}, while this one gave no sign of life for "
                f"more than {self._session_timeout:g} s"
            )

    async def committed(self, tps: Iterable[ClientPartition], timeout: float) -> Mapping[ClientPartition, int]:
        """Raises KafkaError and TimeoutError."""
        asking = self._consumer._coordinator.fetch_committed_offsets(list(tps))  # noqa: SLF001
        found = await asyncio.wait_for(asking, timeout)
        return {tp: known.offset for tp, known in found.items() if known.offset >= 0}

    async def commit(self, offsets: Mapping[ClientPartition, int], timeout: float) -> None:
        """Raises KafkaError and TimeoutError."""
        await commit_offsets(self._consumer, offsets, timeout)

    async def on_partitions_assigned(self, assigned: Iterable[ClientPartition]) -> None:
        assigned = list(assigned)
        self._is_ours = bool(assigned)
        if self._consumer is not None and assigned:
            self._consumer.pause(*assigned)  # read by another consumer, which has no place in the group

    async def on_partitions_revoked(self, revoked: Iterable[ClientPartition]) -> None:
        """At every rebalance; the next assignment tells."""
