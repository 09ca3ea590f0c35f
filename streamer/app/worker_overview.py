"""What a worker's page shows, and what the indexer's dashboard asks of a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamer.core.vectors import Space
from streamer.embedding.cached import CacheStatistics
from streamer.embedding.provider_calls import DispatchStatistics
from streamer.http.history import Rates, Values, share
from streamer.worker.pipeline import PipelineStatistics
from streamer.worker.recent_dead_letters import RecentDeadLetters


class WorkerNumbers(Protocol):
    """The statistics of a worker, as far as people are shown them."""

    @property
    def loop_lag_seconds(self) -> float: ...
    @property
    def pipeline(self) -> PipelineStatistics: ...
    @property
    def cache(self) -> CacheStatistics: ...
    @property
    def provider(self) -> DispatchStatistics: ...


class WorkerOverview:
    """`numbers`: as of now. `waits`: why the provider is not asked, None when it is."""

    def __init__(
        self,
        space: Space,
        numbers: Callable[[], WorkerNumbers],
        waits: Callable[[], str | None],
        dead_letters: RecentDeadLetters,
    ) -> None:
        self._space = space
        self._numbers = numbers
        self._waits = waits
        self._dead_letters = dead_letters
        self._rates = Rates()

    async def sample(self, now: float) -> Values:
        numbers = self._numbers()
        flow, provider = numbers.pipeline, numbers.provider
        rates = self._rates.per_second(
            now,
            {
                "records": flow.records_total,
                "embedded": flow.embedded_total,
                "hits": flow.cache_hits_total,
                "dead_letters": flow.dead_letters_total,
                "batches": flow.batches_total,
                "requests": provider.requests_total,
                "tokens": provider.tokens_total,
            },
        )
        hits, embedded = rates.pop("hits"), rates["embedded"]
        paid = None if hits is None or embedded is None else max(0.0, embedded - hits)
        return {
            **rates,
            "hit_share": share(hits, [paid]) if embedded else None,
            "in_flight": flow.in_flight,
            "loop_lag": numbers.loop_lag_seconds,
        }

    def facts(self) -> Mapping[str, Any]:
        numbers = self._numbers()
        flow, provider = numbers.pipeline, numbers.provider
        return {
            "model": self._space.model,
            "space": self._space.id,
            "dimensions": self._space.dimensions,
            "provider": self._space.provider,
            "waits": self._waits(),
            "totals": {
                "records": flow.records_total,
                "embedded": flow.embedded_total,
                "cache_hits": flow.cache_hits_total,
                "tombstones": flow.tombstones_total,
                "dead_letters": flow.dead_letters_total,
                "batches": flow.batches_total,
                "requests": provider.requests_total,
                "tokens": provider.tokens_total,
                "retries": provider.retries_total,
                "rate_limited": provider.rate_limited_total,
                "timeouts": provider.timeouts_total,
            },
            "partitions": flow.partitions,
            "in_flight": flow.in_flight,
            "batches_in_flight": flow.batches_in_flight,
            "calls_open": provider.in_flight,
            "dead_letters": self._dead_letters.list(),
        }
