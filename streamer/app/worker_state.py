"""What a worker tells about itself: whether it is ready, what it waits for, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.adapters.kafka.sink import KafkaSink, SinkStatistics
from streamer.adapters.kafka.source import KafkaSource, SourceStatistics
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.adapters.redis.statistics import RedisStatistics
from streamer.adapters.sqlite import SqliteStatistics
from streamer.app.conditions import Conditions
from streamer.app.embedder import EmbeddingStack
from streamer.app.lag import ConsumerLag
from streamer.app.loop_lag import LoopLag
from streamer.app.status import (
    commit_failure_document,
    dead_letters_document,
    forecast_document,
    partitions_document,
    process_document,
    seconds_document,
    total_lag,
)
from streamer.embedding.budget import SpendStatistics
from streamer.embedding.cached import CacheStatistics
from streamer.embedding.provider_calls import DispatchStatistics
from streamer.embedding.recent_vectors import RecentStatistics
from streamer.http.role_state import RoleState
from streamer.telemetry.histogram import Histogram
from streamer.telemetry.waiting import WORKER_LACKS, WORKER_REASONS, Waiting, flags, joined, lacking
from streamer.worker.pipeline import Pipeline
from streamer.worker.statistics import PipelineStatistics

PARTITION = ("topic", "partition")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """All that a worker counts and measures."""

    ready: bool = field(metadata={"help": "Whether work flows: what GET /readyz answers."})
    waiting: Mapping[str, bool] = field(metadata={"label": "reason", "help": "Whether the worker waits for this."})
    degraded: Mapping[str, bool] = field(
        metadata={"label": "reason", "help": "Whether the worker goes on without something because of this."}
    )
    consumer_lag: Mapping[str, int] = field(
        metadata={"label": PARTITION, "help": "Records between the committed offset and the end of the partition."}
    )
    commit_age_seconds: Mapping[str, float] = field(
        metadata={
            "label": PARTITION,
            "help": "Seconds since the last commit while there is something to commit, else 0.",
        }
    )
    oldest_unfinished_seconds: Mapping[str, float] = field(
        metadata={
            "label": PARTITION,
            "help": "Seconds since the oldest event that is not acknowledged yet was read, 0 without one.",
        }
    )
    end_to_end_seconds: Histogram = field(
        metadata={"help": "From the time of a record to the acknowledgement of what became of it."}
    )
    stage_seconds: Mapping[str, Histogram] = field(
        metadata={
            "label": "stage",
            "help": "How long each stage takes: of a batch queue, window, cache, publish and commit, of a call "
            "limit_wait and provider.",
        }
    )
    batch_size: Mapping[str, Histogram] = field(
        metadata={"label": "reason", "help": "Events of a micro-batch, by what cut it."}
    )
    clock_ahead_seconds: float = field(
        metadata={"help": "How far the latest time of a record of the last minute lies in the future."}
    )
    loop_lag_seconds: float = field(metadata={"help": "Longest delay of the event loop in the last minute."})
    pipeline: PipelineStatistics
    source: SourceStatistics
    sink: SinkStatistics
    cache: CacheStatistics
    provider: DispatchStatistics
    spend: SpendStatistics | None
    cache_memory: RecentStatistics | None
    cache_file: SqliteStatistics | None
    cache_server: RedisStatistics | None


class Worker:
    """What the endpoints ask: the flow's own state first, then the brokers' and the provider's."""

    def __init__(
        self,
        pipeline: Pipeline,
        embedding: EmbeddingStack,
        source: KafkaSource,
        sink: KafkaSink | KafkaTransactions,
        loop_lag: LoopLag,
        group_id: str,
    ) -> None:
        self._pipeline = pipeline
        self._embedding = embedding
        self._source = source
        self._sink = sink
        self._loop_lag = loop_lag
        self._group_id = group_id
        self.conditions = Conditions(self.waits, self.lacks, pipeline.done)
        self.lag = ConsumerLag(
            pipeline.tracker.committed_offsets,
            lambda: pipeline.tracker.partitions,
            source.end_offsets,
            source.committed,
        )

    def ready(self) -> str | None:
        """The first of `waits`, and why it is, as far as the brokers are to blame."""
        waits = self.waits()
        if not waits:
            return None
        why = joined(self._source.waits()) if self._pipeline.waiting() is not None else None
        return waits[0].text if why is None else f"{waits[0].text}: {why.text}"

    def state(self) -> RoleState:
        return self.conditions.state(self.ready())

    def states(self) -> dict[str, Callable[[], str | Waiting | None]]:
        """Why each part that may be unavailable for a while is. The cache tells of its outages itself."""
        return {
            "provider": self._embedding.dispatcher.waiting,
            "Kafka output": self._sink.state,
            "Kafka input": lambda: joined(self._source.waits()),
            "commits": self._uncommitted,
        }

    def waits(self) -> list[Waiting]:
        """All that keeps work from flowing now; readiness, status, the page and metrics tell of nothing else."""
        publishing = self._sink.state()
        found = [
            self._pipeline.waiting(),
            None if publishing is None else Waiting("publishing", publishing),
            *self._source.waits(),
            provider_waiting(self._embedding),
        ]
        return [waiting for waiting in found if waiting is not None]

    def lacks(self) -> list[Waiting]:
        """All that it does without just now."""
        found = [lacking("cache", self._embedding.caches.state()), self._uncommitted()]
        return [lack for lack in found if lack is not None]

    def _uncommitted(self) -> Waiting | None:
        return self._pipeline.commit_health.lack(self._pipeline.clock())

    def statistics(self) -> WorkerStatistics:
        pipeline, embedding, caches = self._pipeline, self._embedding, self._embedding.caches
        offsets, times = pipeline.offsets(), pipeline.times
        return WorkerStatistics(
            ready=self.ready() is None,
            waiting=flags(WORKER_REASONS, self.waits()),
            degraded=flags(WORKER_LACKS, self.lacks()),
            consumer_lag={str(tp): records for tp, records in self.lag.records().items()},
            commit_age_seconds={str(tp): age for tp, age in offsets.commit_age.items()},
            oldest_unfinished_seconds={str(tp): age for tp, age in offsets.oldest_age.items()},
            end_to_end_seconds=times.end_to_end,
            stage_seconds={
                **times.stages,
                "cache": embedding.embedder.look_up_seconds,
                **embedding.dispatcher.times(),
            },
            batch_size={**times.batch_size},
            clock_ahead_seconds=times.clock_ahead.value(pipeline.clock()),
            loop_lag_seconds=self._loop_lag.worst,
            pipeline=pipeline.statistics(),
            source=self._source.statistics(),
            sink=self._sink.statistics(),
            cache=embedding.embedder.statistics(),
            provider=embedding.dispatcher.statistics(),
            spend=embedding.budget.statistics() if embedding.budget else None,
            cache_memory=caches.recent.statistics() if caches.recent is not None else None,
            cache_file=caches.file.statistics() if caches.file else None,
            cache_server=caches.server.statistics() if caches.server else None,
        )

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` answers."""
        pipeline, lag = self._pipeline, self.lag.records()
        offsets = pipeline.offsets()
        return {
            **process_document("worker", self._group_id, self._embedding, self.conditions, self.state()),
            "lag": total_lag(lag),
            "partitions": partitions_document(lag, offsets.commit_age, offsets.oldest_age),
            "commit_failure": commit_failure_document(pipeline.commit_health.failure(pipeline.clock())),
            "in_flight": offsets.in_flight,
            "end_to_end_seconds": seconds_document(pipeline.times.end_to_end),
            "dead_letters": dead_letters_document(pipeline.dead_letters_of_the_hour()),
            "forecast": forecast_document(
                self._embedding, self.conditions.rate.per_second(), pipeline.done(), total_lag(lag)
            ),
        }


def provider_waiting(embedding: EmbeddingStack) -> Waiting | None:
    """What calls to the provider wait for."""
    waiting = embedding.dispatcher.waiting()
    return None if waiting is None else Waiting(waiting.reason, f"provider {waiting.text}", waiting.until)
