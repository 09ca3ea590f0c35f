"""A worker's numbers as people see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from streamer.app.worker_overview import WorkerOverview
from streamer.app.worker_state import WorkerStatistics
from streamer.embedding.budget import SpendStatistics
from streamer.embedding.provider_calls import DispatchStatistics
from streamer.telemetry.histogram import WAY_SECONDS, Histogram
from streamer.worker.recent_dead_letters import RecentDeadLetters
from streamer.worker.statistics import PipelineStatistics
from tests.support.indexing import SPACE

pytestmark = pytest.mark.anyio
FLOW = PipelineStatistics(
    records_total=0, embedded_total=0, cache_hits_total=0, tombstones_total=0, dead_letters_total={}, stale_total=0,
    batches_total=0, commits_total=0, commit_failures_total=0, rebalances_total=1, partitions=4, in_flight=12,
    in_flight_bytes=300, batches_in_flight=1, lowest_unfinished_offset={},
)  # fmt: skip


@dataclass
class Numbers:
    """Those of a worker's statistics that people are shown."""

    pipeline: PipelineStatistics = FLOW
    provider: DispatchStatistics = field(default_factory=DispatchStatistics)
    end_to_end_seconds: Histogram = field(default_factory=lambda: Histogram(WAY_SECONDS))
    consumer_lag: Mapping[str, int] = field(default_factory=lambda: {"texts/0": 3, "texts/1": 4})
    loop_lag_seconds: float = 0.01
    spend: SpendStatistics | None = None


def overview_of(numbers: Numbers) -> WorkerOverview:
    return WorkerOverview(SPACE, lambda: cast("WorkerStatistics", numbers), RecentDeadLetters())


async def test_rates_delays_and_the_share_of_cache_hits() -> None:
    numbers = Numbers()
    overview = overview_of(numbers)
    first = await overview.sample(10.0)
    assert (first["embedded"], first["hit_share"], first["delay"]) == (None, None, None)
    assert (first["in_flight"], first["lag"]) == (12, 7)
    numbers.pipeline = replace(FLOW, embedded_total=100, cache_hits_total=25, dead_letters_total={"too_long": 5})
    numbers.provider = DispatchStatistics(requests_total=5, tokens_total=1_000)
    numbers.end_to_end_seconds.observe_all([0.1, 0.3])
    sample = await overview.sample(15.0)
    assert (sample["embedded"], sample["hit_share"], sample["dead_letters"]) == (20.0, 0.25, 1.0)
    assert (sample["requests"], sample["tokens"]) == (1.0, 200.0)
    assert sample["delay"] == pytest.approx(0.2)
    assert "usd" not in sample, "nothing is known of prices"
    idle = await overview.sample(20.0)
    assert (idle["hit_share"], idle["delay"]) == (None, None), "nothing was embedded"


async def test_what_it_costs_an_hour() -> None:
    spend = SpendStatistics(
        usd_total=1.0, day_usd=3.0, month_usd=9.0, day_tokens=5, day_requests=1, limit_reached=False
    )
    numbers = Numbers(spend=spend)
    overview = overview_of(numbers)
    await overview.sample(0.0)
    numbers.spend = replace(spend, usd_total=1.5)
    assert (await overview.sample(60.0))["usd"] == pytest.approx(30.0)
    facts = overview.facts()
    assert facts["spend"]["day_usd"] == 3.0
