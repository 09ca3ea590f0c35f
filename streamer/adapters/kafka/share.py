"""A share of a topic's partitions: as many indexers as there are partitions divide them as a consumer group.

The member that holds the share reads nothing itself, as with a Seat: commits go through it, so that the coordinator
refuses those of a member that the group has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from streamer.adapters.kafka.diagnosis import cause_of_death
from streamer.adapters.kafka.seat import Seat
from streamer.errors import Unreachable

log = structlog.get_logger(__name__)

_REBALANCE_SECONDS: Final = 30.0
_FINISH_SECONDS: Final = 25.0  # that the flow has, of those, to finish what it has begun


class Share(Seat):
    """`partitions`: those that the group leaves to us. `is_changing`: they are about to be others, or have changed;
    the group waits for `let_go`."""

    rebalance_seconds = _REBALANCE_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.partitions: frozenset[int] = frozenset()
        self.is_changing = False
        self._let_go = asyncio.Event()
        self._assigned = asyncio.Event()
        self._is_begun = False

    def assignor(self) -> Any:
        """Partitions stay where they are, if that is fair. The client keeps what a member has in the class: a process
        may hold members of several groups."""
        return type("Sticky", (StickyPartitionAssignor,), {})

    async def begin(self) -> None:
        """With the partitions that there are now, which may be none; from now on changes wait for `let_go`."""
        await self._assigned.wait()
        self._is_begun, self.is_changing = True, False

    async def let_go(self) -> None:
        """All that was begun has been finished. Returns when the group has divided the partitions again."""
        self._is_begun = False
        self._let_go.set()
        await self.begin()

    def check(self) -> None:
        """Raises Unreachable when this member is beyond help."""
        if self._consumer is None:
            raise Unreachable(f"the share in the group {self._group_id!r} has been given up")
        death = cause_of_death(self._consumer)
        if death is not None:
            raise Unreachable(f"the share in the group {self._group_id!r} is lost: {death}")

    async def commit(self, offsets: Mapping[ClientPartition, int], timeout: float) -> None:
        """Of partitions that are ours still: what others have taken over they have judged themselves."""
        ours = self._consumer.assignment()
        if mine := {tp: offset for tp, offset in offsets.items() if tp in ours}:
            await super().commit(mine, timeout)

    async def on_partitions_assigned(self, assigned: Iterable[ClientPartition]) -> None:
        assigned = list(assigned)
        partitions = frozenset(tp.partition for tp in assigned)
        if self._consumer is not None and assigned:
            self._consumer.pause(*assigned)
        log.info("partitions divided anew", group=self._group_id, partitions=sorted(partitions))
        self.partitions, self._is_ours = partitions, True
        self.is_changing = self.is_changing or self._is_begun
        self._assigned.set()

    async def on_partitions_revoked(self, revoked: Iterable[ClientPartition]) -> None:  # noqa: ARG002
        """At every rebalance, before this member takes part in it."""
        self._assigned.clear()
        if self._is_begun:
            self._let_go.clear()
            self.is_changing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_FINISH_SECONDS):
                    await self._let_go.wait()
