"""A worker's numbers as people see them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from streamer.app.worker_overview import WorkerOverview
from streamer.embedding.cached import CacheStatistics
from streamer.embedding.provider_calls import DispatchStatistics
from streamer.worker.pipeline import PipelineStatistics
from streamer.worker.recent_dead_letters import RecentDeadLetters
from tests.support.indexing import SPACE

pytestmark = pytest.mark.anyio
FLOW = PipelineStatistics(
    records_total=0, embedded_total=0, cache_hits_total=0, tombstones_total=0, dead_letters_total=0, stale_total=0,
    batches_total=0, commits_total=0, commit_failures_total=0, rebalances_total=1, partitions=4, in_flight=12,
    in_flight_bytes=300, batches_in_flight=1, lowest_unfinished_offset={},
)  # fmt: skip


@dataclass
class Numbers:
    pipeline: PipelineStatistics = FLOW
    cache: CacheStatistics = field(default_factory=lambda: CacheStatistics(0, 0, 0, 0, 0))
    provider: DispatchStatistics = field(default_factory=DispatchStatistics)
    loop_lag_seconds: float = 0.01


async def test_rates_and_the_share_of_cache_hits() -> None:
    numbers = Numbers()
    overview = WorkerOverview(SPACE, lambda: numbers, lambda: "blocked: no key", RecentDeadLetters())
    first = await overview.sample(10.0)
    assert (first["embedded"], first["hit_share"], first["in_flight"]) == (None, None, 12)
    numbers.pipeline = replace(FLOW, embedded_total=100, cache_hits_total=25, dead_letters_total=5)
    numbers.provider = DispatchStatistics(requests_total=5, tokens_total=1_000)
    sample = await overview.sample(15.0)
    assert (sample["embedded"], sample["hit_share"], sample["dead_letters"]) == (20.0, 0.25, 1.0)
    assert (sample["requests"], sample["tokens"]) == (1.0, 200.0)
    assert (await overview.sample(20.0))["hit_share"] is None, "nothing was embedded"
    facts = overview.facts()
    assert (facts["waits"], facts["partitions"], facts["totals"]["embedded"]) == ("blocked: no key", 4, 100)
