"""How far a group is behind the end of its partitions, as Kafka's tools show it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Final, NoReturn

import anyio

from streamer.core.events import TopicPartition
from streamer.errors import RetriableError, Unreachable

LOOK_INTERVAL: Final = 5.0  # seconds; one small request to the brokers

Offsets = Mapping[TopicPartition, int]


class ConsumerLag:
    """Run `watch` beside a role. `records`: by partition, the end of its log less the committed offset, as of the last
    answer of the brokers.

    `committed`: what the role knows of it; `ends` and `start` ask the brokers: for the ends, and for the committed
    offsets of partitions of which nothing has been committed or read in this process. They raise Unreachable.
    """

    def __init__(
        self,
        committed: Callable[[], Offsets],
        partitions: Callable[[], Collection[TopicPartition]],
        ends: Callable[[Collection[TopicPartition]], Awaitable[Offsets]],
        start: Callable[[Collection[TopicPartition]], Awaitable[Offsets]],
    ) -> None:
        self._committed = committed
        self._partitions = partitions
        self._ask_ends = ends
        self._ask_start = start
        self._ends: dict[TopicPartition, int] = {}
        self._starts: dict[TopicPartition, int] = {}

    def records(self) -> dict[TopicPartition, int]:
        mine, committed = self._partitions(), {**self._starts, **self._committed()}
        known = sorted(tp for tp in mine if tp in self._ends and tp in committed)
        return {tp: max(0, self._ends[tp] - committed[tp]) for tp in known}

    async def look(self) -> None:
        """Ask the brokers once. Raises Unreachable."""
        tps = self._partitions()
        if not tps:
            return
        self._ends = dict(await self._ask_ends(tps))
        # Each time anew: since the last look others may have owned a partition, and committed.
        unknown = set(tps) - self._committed().keys()
        self._starts = dict(await self._ask_start(unknown)) if unknown else {}

    async def watch(self) -> NoReturn:
        while True:
            with suppress(Unreachable, RetriableError):  # an outage, which others tell of: what was known last stays
                await self.look()
            await anyio.sleep(LOOK_INTERVAL)
