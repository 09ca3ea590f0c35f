"""The indexer's own numbers and those of its workers, together."""

from __future__ import annotations

import pytest

from streamer.app.indexer_overview import IndexerOverview
from tests.support.dashboards import SaidWorker, at_work
from tests.support.indexing import Topic, running

pytestmark = pytest.mark.anyio


async def test_workers_are_added_up_and_the_silent_ones_named() -> None:
    fast = SaidWorker(at_work(now={"embedded": 30.0, "hit_share": 0.5, "lag": 7.0}), "http://a:1")
    slow = SaidWorker(at_work(now={"embedded": 10.0, "hit_share": 0.1, "lag": None}), "http://b:1")
    silent = SaidWorker("does not answer", "http://c:1")
    odd = SaidWorker({"role": "worker", "now": {"embedded": "many"}}, "http://d:1")
    async with running(Topic()) as this:
        overview = IndexerOverview(this.indexer, [fast, slow, silent, odd])
        assert overview.facts()["workers"][2] == {"url": "http://c:1", "silent": "has not been asked yet"}
        sample = await overview.sample(10.0)
        assert (sample["embedded"], sample["lag"], sample["dead_letters"]) == (40.0, 7.0, None)
        assert sample["hit_share"] == pytest.approx(0.4)
        workers = overview.facts()["workers"]
        assert workers[2] == {"url": "http://c:1", "silent": "does not answer"}
        assert workers[0]["partitions"] == 4


async def test_verdicts_a_second_and_their_delay() -> None:
    topic = Topic()
    async with running(topic) as this:
        overview = IndexerOverview(this.indexer, [])
        await overview.sample(10.0)
        for number in range(4):
            topic.append(f"id-{number}", 0)
        await this.settle()
        sample = await overview.sample(12.0)
        assert (sample["events"], sample["near_duplicates"], sample["anomalies"]) == (2.0, 1.5, 0.0)
        assert sample["delay"] is None, "these records name no time"
        assert "embedded" not in sample, "nobody was asked"
        facts = overview.facts()
        assert (facts["vectors"], facts["verdicts"]["near_duplicate"]) == (4, 3)
        assert facts["events_missing"] == 96
