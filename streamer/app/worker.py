"""`streamer run`: the worker put together."""

from __future__ import annotations

import time

import anyio
import structlog

from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.source import KafkaSource
from streamer.app.embedder import batches_at_once, open_embedder
from streamer.app.kafka import connection_of, ensure_topics, open_sink
from streamer.app.signals import until_signalled
from streamer.core.batching import BatchPolicy
from streamer.core.codec import Decoder, Encoder
from streamer.pipeline import Pipeline, PipelineSettings
from streamer.protocols import Embedder
from streamer.settings import Settings

log = structlog.get_logger("streamer")


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
                    log.info("worker stopped", records=done.records_total, embedded=done.embedded_total, unfinished=done.in_flight,
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
            max_batches=batches_at_once(settings),
            max_in_flight_events=batch.max_in_flight_events,
            max_in_flight_bytes=batch.max_in_flight_bytes,
            commit_interval=delivery.commit_interval_ms / 1000,
            drain_timeout=delivery.drain_timeout_ms / 1000,
        ),
    )
