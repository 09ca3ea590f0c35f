"""Offsets of what is complete, committed one commit after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio
import structlog

from streamer.core.events import TopicPartition
from streamer.errors import PartitionLost, RetriableError
from streamer.protocols import Source
from streamer.telemetry.commit_health import CommitHealth
from streamer.worker.offsets import OffsetTracker
from streamer.worker.statistics import FlowTimes

log = structlog.get_logger(__name__)


class Committing:
    """`commits`, `failures`: since the start. `health`: whether they succeed. `clock` never jumps, `wall_clock` is that
    of the epoch."""

    def __init__(
        self,
        source: Source,
        tracker: OffsetTracker,
        times: FlowTimes,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.commits = 0
        self.failures = 0
        self.health = CommitHealth()
        self._source = source
        self._tracker = tracker
        self._times = times
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = anyio.Lock()

    async def commit(self, tps: Collection[TopicPartition]) -> bool:
        """What is complete of these partitions; False where that fails and is left for the next commit."""
        # The lock keeps a slow periodic commit from landing after the final one of a rebalance and moving it back.
        async with self._lock:
            offsets = self._tracker.committable(tps)
            if not offsets:
                if not self._tracker.committable():
                    self.health.succeeded()
                return True
            begun = self._clock()
            self.health.begins(begun, self._wall_clock())
            try:
                await self._source.commit(offsets)
            except (PartitionLost, RetriableError) as exc:
                self.failures += 1
                self.health.failed(str(exc))
                log.warning("offsets not committed", reason=str(exc), partitions=sorted(map(str, offsets)))
                return False
            self.commits += 1
            self.health.succeeded()
            now = self._clock()
            self._times.stages["commit"].observe(now - begun)
            self._tracker.committed(offsets, now)
            return True
