"""`GET /v1/status` of both roles, made of real parts that are not connected to anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.app.embedder import open_embedding
from streamer.app.indexer_state import Surroundings
from streamer.app.loop_lag import LoopLag
from streamer.app.status import forecast_document
from streamer.app.worker_state import Worker
from streamer.core.events import Record, TopicPartition
from streamer.settings import Settings
from streamer.telemetry.waiting import Waiting
from streamer.testing import HashProvider, MemorySink, MemorySource, record
from tests.support.indexing import Running, Topic
from tests.support.schemas import check_document
from tests.worker.flows import pipeline, until

pytestmark = pytest.mark.anyio
A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)
SETTINGS = Settings.model_validate({"cache": {"enabled": False}})
NOWHERE = KafkaConnection(bootstrap_servers="127.0.0.1:9")


@asynccontextmanager
async def working(logs: Mapping[TopicPartition, list[Record]]) -> AsyncIterator[tuple[Worker, MemorySink]]:
    """A worker that has worked off these."""
    sink = MemorySink()
    async with open_embedding(SETTINGS, own=HashProvider()) as embedding:
        flow = pipeline(MemorySource(logs), embedding.embedder, sink)
        source = KafkaSource(NOWHERE, ["texts"], "g")
        worker = Worker(flow, embedding, source, KafkaTransactions(NOWHERE, "g"), LoopLag(), "g")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.run)
            await flow.on_assigned(list(logs))
            await until(lambda: len(sink.acknowledged) == sum(map(len, logs.values())))
            await until(lambda: flow.statistics().in_flight == 0)
            yield worker, sink
            flow.stop()


async def test_a_worker_tells_what_became_of_its_records() -> None:
    log = [record(A, n, b'{"text": "t"}' if n < 3 else b'{"body": "t"}', b"k") for n in range(8)]
    async with working({A: log, B: []}) as (worker, _):
        document = worker.status()
    check_document("status", document)
    assert document["ready"]
    assert (document["role"], document["group"], document["waits"], document["lag"]) == ("worker", "g", [], None)
    assert [(p["topic"], p["partition"], p["lag"]) for p in document["partitions"]] == [
        ("texts", 0, None), ("texts", 1, None),
    ]  # fmt: skip
    [letters] = document["dead_letters"]
    assert (letters["kind"], letters["count"]) == ("missing_text", 5)
    assert letters["reason"].startswith("no text at 'text'")


async def test_a_worker_tells_what_it_waits_for_in_one_word_since_when_and_until_when() -> None:
    async with open_embedding(SETTINGS, own=HashProvider()) as embedding:
        flow = pipeline(MemorySource({}), embedding.embedder, MemorySink())
        worker = Worker(
            flow, embedding, KafkaSource(NOWHERE, ["texts"], "g"), KafkaTransactions(NOWHERE, "g"), LoopLag(), "g"
        )
        worker.waits = lambda: [Waiting("provider_quota", "provider blocked: used up", 2_000_000_000.0)]  # type: ignore[method-assign]
        worker.conditions._find_waits = worker.waits
        document = worker.status()
        check_document("status", document)
        [waits] = document["waits"]
        assert (waits["reason"], waits["text"]) == ("provider_quota", "provider blocked: used up")
        assert waits["until"] == "2033-05-18T03:33:20Z"
        assert waits["since"] == document["started"]
        assert (document["ready"], document["state"]) == (False, "provider blocked: used up")
        metrics = worker.statistics()
        assert [reason for reason, holds in metrics.waiting.items() if holds] == ["provider_quota"]
        assert not metrics.ready
        flow.stop()


async def test_an_indexer_tells_how_far_it_is() -> None:
    this = Running(Topic())
    async with open_embedding(SETTINGS, own=HashProvider()) as embedding, anyio.create_task_group() as tasks:
        changelog = KafkaChangelog(NOWHERE, "vectors", None)
        sink: Any = KafkaTransactions(NOWHERE, "g")
        around = Surroundings(this.indexer, embedding, sink, changelog, None, LoopLag(), "g-verdicts")
        document = around.status()
        check_document("status", document)
        assert [waits["reason"] for waits in document["waits"]] == ["starting"]
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: this.indexer.ready() is None)
        document = around.status()
        check_document("status", document)
        assert (document["role"], document["ready"], document["waits"], document["vectors"]) == ("indexer", True, [], 0)
        this.indexer.stop()


async def test_a_forecast_is_of_the_rate_of_now_and_of_what_was_paid_for_each_record() -> None:
    priced = SETTINGS.model_copy(
        update={"provider": SETTINGS.provider.model_copy(update={"price_per_million_tokens": 2.0})}
    )
    async with open_embedding(priced, own=HashProvider()) as embedding:
        await embedding.embedder.embed(["one two", "three four five six"], "document")
        seen = forecast_document(embedding, rate=10.0, done=3, lag=600)
        assert forecast_document(embedding, rate=0.0, done=3, lag=600) is None
    assert seen == {  # six tokens for three records, one of them a dead letter
        "usd_per_day": pytest.approx(10 * 2 * 86_400 * 2e-6),
        "tokens_per_day": 10 * 2 * 86_400,
        "requests_per_day": 288_000,  # one request for three records
        "backlog_usd": pytest.approx(600 * 2 * 2e-6),
        "backlog_tokens": 1200,
        "backlog_seconds": 60.0,
    }


@pytest.mark.parametrize("price", [None, 0.0])
async def test_a_forecast_without_money_tells_time_tokens_and_requests(price: float | None) -> None:
    """The price of a model may be unknown, and one in this process has none."""
    provider = SETTINGS.provider.model_copy(update={"price_per_million_tokens": price})
    async with open_embedding(SETTINGS.model_copy(update={"provider": provider}), own=HashProvider()) as embedding:
        await embedding.embedder.embed(["one two", "three four five six"], "document")
        seen = forecast_document(embedding, rate=10.0, done=3, lag=None)
    assert seen == {
        "usd_per_day": None,
        "tokens_per_day": 10 * 2 * 86_400,
        "requests_per_day": 288_000,
        "backlog_usd": None,
        "backlog_tokens": 0,
        "backlog_seconds": 0.0,
    }
