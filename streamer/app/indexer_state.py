"""What an indexer tells about itself beside its own statistics: what it waits for, and the parts around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.sink import KafkaSink, SinkStatistics
from streamer.app.conditions import Conditions
from streamer.app.embedder import EmbeddingStack
from streamer.app.lag import ConsumerLag
from streamer.app.loop_lag import LoopLag
from streamer.app.status import (
    commit_failure_document,
    partitions_document,
    process_document,
    seconds_document,
    total_lag,
)
from streamer.app.worker_state import PARTITION, provider_waiting
from streamer.embedding.budget import SpendStatistics
from streamer.embedding.cached import CacheStatistics
from streamer.embedding.provider_calls import DispatchStatistics
from streamer.http.role_state import RoleState
from streamer.indexer.indexer import Indexer
from streamer.indexer.snapshots.store import Snapshots
from streamer.telemetry.waiting import INDEXER_LACKS, INDEXER_REASONS, Waiting, flags, lacking


@dataclass(frozen=True, slots=True, kw_only=True)
class SurroundingsStatistics:
    """The parts that an indexer works with."""

    waiting: Mapping[str, bool] = field(metadata={"label": "reason", "help": "Whether the indexer waits for this."})
    degraded: Mapping[str, bool] = field(
        metadata={"label": "reason", "help": "Whether the indexer goes on without something because of this."}
    )
    consumer_lag: Mapping[str, int] = field(
        metadata={"label": PARTITION, "help": "Records between the committed offset and the end of the partition."}
    )
    loop_lag_seconds: float = field(metadata={"help": "Longest delay of the event loop in the last minute."})
    sink: SinkStatistics
    cache: CacheStatistics
    provider: DispatchStatistics
    spend: SpendStatistics | None


class Surroundings:
    """What the endpoints ask of an indexer's surroundings."""

    def __init__(
        self,
        indexer: Indexer,
        embedding: EmbeddingStack,
        sink: KafkaSink,
        changelog: KafkaChangelog,
        snapshots: Snapshots | None,
        loop_lag: LoopLag,
        group_id: str,
    ) -> None:
        self._indexer = indexer
        self._embedding = embedding
        self._sink = sink
        self._changelog = changelog
        self._snapshots = snapshots
        self._loop_lag = loop_lag
        self._group_id = group_id
        self.conditions = Conditions(self.waits, self.lacks, lambda: sum(indexer.statistics().verdicts_total.values()))
        self.lag = ConsumerLag(
            lambda: indexer.committed,
            lambda: changelog.positions().keys(),
            lambda _: changelog.end_offsets(),
            changelog.beginning_offsets,
        )

    def state(self) -> RoleState:
        """An indexer that lost its brokers goes on answering searches: ready, and it says what it does without."""
        return self.conditions.state(self._indexer.ready())

    def states(self) -> dict[str, Callable[[], str | Waiting | None]]:
        """Why each part that may be unavailable for a while is."""
        return {
            "provider": self._embedding.dispatcher.waiting,
            "Kafka output": self._sink.state,
            "Kafka input": self._changelog.state,
            "commits": self._uncommitted,
        }

    def waits(self) -> list[Waiting]:
        """All that keeps verdicts or searches by text from flowing now."""
        found = [self._indexer.waiting(), provider_waiting(self._embedding)]
        if (publishing := self._sink.state()) is not None:
            found.append(Waiting("publishing", publishing))
        if (consuming := self._changelog.state()) is not None:
            found.append(Waiting("consuming", consuming))
        return [waiting for waiting in found if waiting is not None]

    def lacks(self) -> list[Waiting]:
        """All that it does without just now."""
        snapshots = self._snapshots
        found = [
            lacking("cache", self._embedding.caches.state()),
            lacking("snapshot", snapshots.error if snapshots else None),
            self._uncommitted(),
        ]
        return [lack for lack in found if lack is not None]

    def _uncommitted(self) -> Waiting | None:
        return self._indexer.commit_health.lack(anyio.current_time())

    def statistics(self) -> SurroundingsStatistics:
        return SurroundingsStatistics(
            waiting=flags(INDEXER_REASONS, self.waits()),
            degraded=flags(INDEXER_LACKS, self.lacks()),
            consumer_lag={str(tp): records for tp, records in self.lag.records().items()},
            loop_lag_seconds=self._loop_lag.worst,
            sink=self._sink.statistics(),
            cache=self._embedding.embedder.statistics(),
            provider=self._embedding.dispatcher.statistics(),
            spend=self._embedding.budget.statistics() if self._embedding.budget else None,
        )

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` answers."""
        numbers, lag = self._indexer.statistics(), self.lag.records()
        snapshot = numbers.snapshot
        return {
            **process_document("indexer", self._group_id, self._embedding, self.conditions, self.state()),
            "lag": total_lag(lag),
            "partitions": partitions_document(lag, self._indexer.commit_age()),
            "commit_failure": commit_failure_document(self._indexer.commit_health.failure(anyio.current_time())),
            "end_to_end_seconds": seconds_document(numbers.end_to_end_seconds),
            "vectors": numbers.vectors,
            "capacity": numbers.capacity,
            "verdicts": numbers.verdicts(),
            "foreign": sum(numbers.foreign_total.values()),
            "snapshot_age_seconds": None if snapshot is None else snapshot.age_seconds,
        }
