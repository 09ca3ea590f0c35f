"""The composition root: the only place that names concrete classes and decides what starts and stops when."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import Connection
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.topics import TopicSpec, TopicState, check_topics
from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.batching import BatchPolicy
from streamer.core.codec import Decoder, Encoder
from streamer.core.vectors import Space
from streamer.embedding.cached import CachedEmbedder
from streamer.errors import Unreachable
from streamer.pipeline import Pipeline, PipelineSettings
from streamer.protocols import Embedder
from streamer.settings import Settings

log = structlog.get_logger("streamer")


def connection_of(settings: Settings) -> Connection:
    kafka = settings.kafka
    return Connection(
        bootstrap_servers=kafka.bootstrap_servers,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        ssl_cafile=kafka.ssl_cafile,
        ssl_certfile=kafka.ssl_certfile,
        ssl_keyfile=kafka.ssl_keyfile,
        connect_timeout=kafka.connect_timeout_ms / 1000,
    )


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """The topics that a deployment needs. Vectors and verdicts are compacted: the last one of an id is the one that counts."""
    topics, kafka = settings.topics, settings.kafka
    size, copies = kafka.partitions, kafka.replication_factor
    compacted = {"cleanup.policy": "compact"}
    return [
        *(TopicSpec(name, size, copies) for name in topics.inputs),
        TopicSpec(topics.vectors, size, copies, compacted),
        TopicSpec(topics.verdicts, size, copies, compacted),
        TopicSpec(topics.dead_letters, 1, copies),
    ]


async def ensure_topics(settings: Settings) -> list[TopicState]:
    """Check that the topics exist, creating missing ones if the settings allow it; else raises Unreachable."""
    states = await check_topics(connection_of(settings), topic_specs(settings), create=settings.kafka.create_topics)
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise Unreachable(
            f"missing topics at {settings.kafka.bootstrap_servers}: {', '.join(missing)}; "
            "create them with: streamer topics --create (or set kafka.create_topics = true)"
        )
    for state in states:
        if state.created:
            log.info("topic created", topic=state.name, partitions=state.partitions)
    return states


@asynccontextmanager
async def open_sink(settings: Settings) -> AsyncIterator[KafkaSink]:
    sink = KafkaSink(
        connection_of(settings), idempotent=settings.kafka.idempotent, compression=settings.kafka.compression
    )
    await sink.start()
    try:
        yield sink
    finally:
        await sink.aclose()


@asynccontextmanager
async def open_changelog(
    settings: Settings, topic: str, group_id: str | None, *, from_beginning: bool = True
) -> AsyncIterator[KafkaChangelog]:
    changelog = KafkaChangelog(connection_of(settings), topic, group_id)
    await changelog.start(from_beginning=from_beginning)
    try:
        yield changelog
    finally:
        await changelog.aclose()


@asynccontextmanager
async def open_cache(settings: Settings, space: Space) -> AsyncIterator[SqliteVectorCache | None]:
    cache = settings.cache
    if not cache.enabled:
        yield None
        return
    async with SqliteVectorCache.open(
        cache.path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes
    ) as opened:
        yield opened


@asynccontextmanager
async def open_embedder(settings: Settings) -> AsyncIterator[CachedEmbedder]:
    """Provider, limits, cache: what turns texts into vectors, with or without Kafka around it."""
    async with open_provider(settings) as provider, open_cache(settings, provider.space) as cache:
        yield CachedEmbedder(provider, cache)


@asynccontextmanager
async def until_signalled(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; a second one cancels what is inside at once."""

    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            seen = 0
            async for number in received:
                seen += 1
                if seen > 1:
                    log.warning("stopping at once", signal=number.name)
                    tasks.cancel_scope.cancel()
                    return
                log.info("stopping", signal=number.name)
                stop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()


async def run_worker(settings: Settings) -> None:
    """`streamer run`: until a signal, or until a part fails."""
    async with open_embedder(settings) as embedder:
        await ensure_topics(settings)
        async with open_sink(settings) as sink:
            source = KafkaSource(
                connection_of(settings), settings.topics.pattern or settings.topics.inputs, settings.kafka.group_id
            )
            pipeline = _pipeline(settings, source, embedder, sink)
            async with until_signalled(pipeline.stop):
                await source.start(pipeline)
                try:
                    log.info("worker started", model=embedder.space.model, space=embedder.space.id,
                             group_id=settings.kafka.group_id)  # fmt: skip
                    started = time.monotonic()
                    await pipeline.run()
                    done = pipeline.statistics()
                    log.info("worker stopped", records=done.records, embedded=done.embedded, unfinished=done.in_flight,
                             seconds=round(time.monotonic() - started, 1))  # fmt: skip
                finally:
                    with anyio.CancelScope(shield=True):
                        await source.aclose()


def _pipeline(settings: Settings, source: KafkaSource, embedder: Embedder, sink: KafkaSink) -> Pipeline:
    batch, delivery = settings.batch, settings.delivery
    decoder = Decoder(settings.input.format, settings.input.text_field, settings.input.id_field)
    encoder = Encoder(
        space=embedder.space,
        vectors_topic=settings.topics.vectors,
        dead_letters_topic=settings.topics.dead_letters,
        format=settings.output.format,
        include_text=settings.output.include_text,
        include_metadata=settings.output.include_metadata,
        max_bytes=settings.kafka.max_message_bytes,
    )
    return Pipeline(
        source,
        embedder,
        sink,
        decoder,
        encoder,
        PipelineSettings(
            batch=BatchPolicy(batch.max_events, batch.max_bytes, batch.linger_ms / 1000),
            max_batches=settings.provider.max_concurrent_requests or 2,
            max_in_flight_events=batch.max_in_flight_events,
            max_in_flight_bytes=batch.max_in_flight_bytes,
            commit_interval=delivery.commit_interval_ms / 1000,
            drain_timeout=delivery.drain_timeout_ms / 1000,
        ),
    )
