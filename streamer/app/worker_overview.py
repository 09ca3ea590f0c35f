"""What a worker's page shows, and what the indexer's dashboard asks of a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from streamer.app.worker_state import Worker, WorkerStatistics
from streamer.core.vectors import Space
from streamer.http.history import Rates, Values, share
from streamer.worker.recent_dead_letters import RecentDeadLetters

_HOUR = 3600.0


class WorkerOverview:
    """`numbers`: as of now."""

    def __init__(
        self,
        space: Space,
        numbers: Callable[[], WorkerStatistics],
        dead_letters: RecentDeadLetters,
    ) -> None:
        self._space = space
        self._numbers = numbers
        self._dead_letters = dead_letters
        self._rates = Rates()

    @classmethod
    def of(cls, worker: Worker, space: Space, dead_letters: RecentDeadLetters) -> WorkerOverview:
        return cls(space, worker.statistics, dead_letters)

    async def sample(self, now: float) -> Values:
        """Rates are per second, `usd` per hour. `delay`: mean seconds from the time of a record to its outcome."""
        numbers = self._numbers()
        flow, provider, way = numbers.pipeline, numbers.provider, numbers.end_to_end_seconds
        counters = {
            "records": flow.records_total,
            "embedded": flow.embedded_total,
            "hits": flow.cache_hits_total,
            "dead_letters": sum(flow.dead_letters_total.values()),
            "batches": flow.batches_total,
            "requests": provider.requests_total,
            "tokens": provider.tokens_total,
            "way_seconds": way.sum,
            "way_count": way.count,
        }
        spent = numbers.spend.usd_total if numbers.spend else None
        rates = self._rates.per_second(now, counters if spent is None else {**counters, "usd": spent * _HOUR})
        hits, embedded = rates.pop("hits"), rates["embedded"]
        seconds, count = rates.pop("way_seconds"), rates.pop("way_count")
        paid = None if hits is None or embedded is None else max(0.0, embedded - hits)
        return {
            **rates,
            "hit_share": share(hits, [paid]) if embedded else None,
            "delay": seconds / count if seconds is not None and count else None,
            "lag": sum(numbers.consumer_lag.values()),
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
            "totals": {
                "records": flow.records_total,
                "embedded": flow.embedded_total,
                "cache_hits": flow.cache_hits_total,
                "tombstones": flow.tombstones_total,
                "dead_letters": sum(flow.dead_letters_total.values()),
                "batches": flow.batches_total,
                "requests": provider.requests_total,
                "tokens": provider.tokens_total,
                "retries": provider.retries_total,
                "rate_limited": provider.rate_limited_total,
                "timeouts": provider.timeouts_total,
            },
            "spend": asdict(numbers.spend) if numbers.spend else None,
            "partitions": flow.partitions,
            "in_flight": flow.in_flight,
            "batches_in_flight": flow.batches_in_flight,
            "calls_open": provider.in_flight,
            "dead_letters": self._dead_letters.list(),
        }
