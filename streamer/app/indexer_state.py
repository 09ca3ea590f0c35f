"""What an indexer tells about itself beside its own statistics: what it waits for, and the parts around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.sink import KafkaSink, SinkStatistics
from streamer.app.embedder import EmbeddingStack
from streamer.app.lag import ConsumerLag
from streamer.app.loop_lag import LoopLag
from streamer.app.worker_state import PARTITION, provider_waiting
from streamer.embedding.budget import SpendStatistics
from streamer.embedding.cached import CacheStatistics
from streamer.embedding.provider_calls import DispatchStatistics
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
    ) -> None:
        self._indexer = indexer
        self._embedding = embedding
        self._sink = sink
        self._changelog = changelog
        self._snapshots = snapshots
        self._loop_lag = loop_lag
        self.lag = ConsumerLag(
            lambda: indexer.committed,
            lambda: changelog.positions().keys(),
            lambda _: changelog.end_offsets(),
            changelog.beginning_offsets,
        )

    def states(self) -> dict[str, Callable[[], str | None]]:
        """Why each part that may be unavailable for a while is."""
        return {
            "provider": self._embedding.dispatcher.state,
            "Kafka output": self._sink.state,
            "Kafka input": self._changelog.state,
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
        cache, snapshots = self._embedding.cache, self._snapshots
        found = [
            lacking("cache", cache.state() if cache else None),
            lacking("snapshot", snapshots.error if snapshots else None),
        ]
        return [lack for lack in found if lack is not None]

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
