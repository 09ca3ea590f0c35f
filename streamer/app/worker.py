"""`streamer run`: the worker put together."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.app.connection import connection_of
from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.handles import check_file_handles
from streamer.app.http import allowed_hosts, build_info, token_of, warn_if_open
from streamer.app.kafka import CLOSE_SECONDS, ensure_topics, open_sink, require_topics
from streamer.app.loop_lag import LoopLag
from streamer.app.migrations import refuse_retired, settings_for_new_side
from streamer.app.outages import watch_outages
from streamer.app.providers import batches_at_once
from streamer.app.runtime import runtime_for_streaming
from streamer.app.sampling import sample_regularly
from streamer.app.signals import Lifetime, until_signalled
from streamer.app.tracing import find_tracing
from streamer.app.worker_overview import WorkerOverview
from streamer.app.worker_state import Worker
from streamer.core.decoding import Decoder
from streamer.http.health import create_health_app
from streamer.http.history import History
from streamer.http.server import serve
from streamer.protocols import Sink
from streamer.settings import Settings
from streamer.telemetry.tracing import ConsumerTracing
from streamer.worker.batching import BatchPolicy
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings

log = structlog.get_logger(__name__)


async def run_worker(
    settings: Settings, report: Callable[[int], None] | None = None, *, of_migration: bool = False
) -> None:
    """Until a signal, then drained and committed; or until a part fails, whose error is raised.

    `report`: told the port of the health endpoints when they are served. `of_migration`: for the new model of a change
    that is running.
    """
    check_file_handles()
    if of_migration:
        settings = await settings_for_new_side(settings)
    async with until_signalled() as lifetime, open_embedding(settings) as embedding:
        await require_topics(settings, settings.topics.inputs)
        if not of_migration:
            await refuse_retired(settings)
        await ensure_topics(settings, [settings.topics.vectors, settings.topics.dead_letters])
        async with open_outlet(settings) as sink:
            with runtime_for_streaming():
                await _serve_and_work(settings, embedding, sink, lifetime, report)


async def _serve_and_work(
    settings: Settings,
    embedding: EmbeddingStack,
    sink: KafkaSink | KafkaTransactions,
    lifetime: Lifetime,
    report: Callable[[int], None] | None,
) -> None:
    kafka = settings.kafka
    topics: Sequence[str] | re.Pattern[str] = settings.topics.pattern or settings.topics.inputs
    source = KafkaSource(
        connection_of(settings),
        topics,
        kafka.group_id,
        session_timeout=kafka.session_timeout_ms / 1000,
        instance_id=kafka.group_instance_id,
        isolation_level=settings.isolation_level,
        transactions=sink if isinstance(sink, KafkaTransactions) else None,
    )
    pipeline = make_pipeline(settings, source, embedding, sink)
    loop_lag = LoopLag()
    async with anyio.create_task_group() as tasks:
        worker = Worker(pipeline, embedding, source, sink, loop_lag, kafka.group_id)
        space = embedding.embedder.space
        warn_if_open(settings, "state and numbers of the worker, keys and reasons of dead letters")
        history = History()
        overview = WorkerOverview.of(worker, space, pipeline.recent_dead_letters)
        app = create_health_app(
            "worker",
            worker,
            token_of(settings),
            build=build_info("worker", space),
            allowed=allowed_hosts(settings),
            history=history,
            facts=overview.facts,
            status=worker.status,
        )
        port = await tasks.start(serve, app, settings.http.host, settings.http.worker_port, "http.worker_port")
        if report is not None:
            report(port)
        tasks.start_soon(loop_lag.watch)
        tasks.start_soon(worker.conditions.watch)
        tasks.start_soon(watch_outages, worker.states())
        tasks.start_soon(sample_regularly, history, overview.sample)
        try:
            await source.start(pipeline)
            lifetime.works(pipeline.stop)
            tasks.start_soon(source.watch)
            tasks.start_soon(worker.lag.watch)
            log.info("worker started", model=space.model, space=space.id, group_id=kafka.group_id, port=port)
            await _run(pipeline)
        finally:
            with anyio.CancelScope(shield=True):
                # Brokers that do not answer will not hear that it leaves.
                await source.aclose(CLOSE_SECONDS if source.state() is None else CLOSE_SECONDS / 5)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_outlet(settings: Settings) -> AsyncIterator[KafkaSink | KafkaTransactions]:
    """What the guarantee asks for. Raises ConfigurationError where the broker cannot do it."""
    if settings.delivery.guarantee == "at-least-once":
        async with open_sink(settings) as sink:
            yield sink
        return
    transactions = KafkaTransactions(
        connection_of(settings), settings.kafka.group_id, compression=settings.kafka.compression
    )
    await transactions.check()
    yield transactions  # the source ends them partition by partition


async def _run(pipeline: Pipeline) -> None:
    started = time.monotonic()
    await pipeline.run()
    done = pipeline.statistics()
    log.info(
        "worker stopped",
        records=done.records_total,
        embedded=done.embedded_total,
        unfinished=done.in_flight,
        seconds=round(time.monotonic() - started, 1),
    )


def make_pipeline(settings: Settings, source: KafkaSource, embedding: EmbeddingStack, sink: Sink) -> Pipeline:
    batch, delivery = settings.batch, settings.delivery
    reading = settings.input
    decoder = Decoder(reading.format, reading.text_field, reading.id_field, reading.key_field)
    encoder = Encoder(
        space=embedding.embedder.space,
        vectors_topic=settings.topics.vectors,
        dead_letters_topic=settings.topics.dead_letters,
        format=settings.output.format,
        include_text=settings.output.include_text,
        include_metadata=settings.output.include_metadata,
        max_bytes=settings.kafka.max_message_bytes,
    )
    flow = PipelineSettings(
        batch=BatchPolicy(batch.max_events, batch.max_bytes, batch.linger_ms / 1000),
        max_batches=batches_at_once(settings, embedding.contract),
        max_in_flight_events=batch.max_in_flight_events,
        max_in_flight_bytes=batch.max_in_flight_bytes,
        commit_interval=delivery.commit_interval_ms / 1000,
        drain_timeout=delivery.drain_timeout_ms / 1000,
        repeats_uncommitted=delivery.guarantee == "at-least-once",
    )
    tracing = ConsumerTracing(find_tracing(), settings.kafka.group_id)
    return Pipeline(source, embedding.embedder, sink, decoder, encoder, flow, tracing=tracing)
