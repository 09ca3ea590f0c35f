"""A worker's flow with a provider that costs nothing.

It is a part of a bench and has a process to itself, so that its memory and processor time are its own.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Mapping
from typing import Any

import anyio

from streamer.adapters.kafka.source import KafkaSource
from streamer.app.connection import connection_of
from streamer.app.kafka import open_sink
from streamer.app.runtime import runtime_for_streaming
from streamer.bench.job import WARM, Stub, settings_of
from streamer.bench.measuring import peak, resident
from streamer.core.decoding import Decoder
from streamer.embedding.cached import CachedEmbedder
from streamer.settings import Settings
from streamer.worker.batching import BatchPolicy
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from streamer.worker.vector_messages import OutputFormat

BATCHES = 2  # at once
LOOK = 0.05  # seconds between two looks at how far it has come


async def worker(
    *,
    where: Mapping[str, Any],
    topic: str,
    target: str,
    format: OutputFormat,
    dimensions: int,
    events: int | None = None,
    provider_seconds: float = 0.0,
) -> Any:
    """A worker until it has published so many `events`, or without such a number until SIGTERM.

    `rate`: events a second from the first tenth on, and microseconds of a processor for each. `resident`: bytes after a
    tenth, half and nine tenths of the events. `stages`: seconds in the mean of each stage.
    """
    settings = settings_of(where)
    stub = Stub(dimensions, provider_seconds)
    connection = connection_of(settings)
    marks: dict[int, int] = {}
    async with open_sink(settings) as sink:
        source = KafkaSource(
            connection, [topic], f"streamer-bench-{uuid.uuid4().hex[:8]}",
            session_timeout=settings.kafka.session_timeout_ms / 1000,
        )  # fmt: skip
        encoder = Encoder(space=stub.space, vectors_topic=target, dead_letters_topic=f"{target}-dead", format=format)
        flow = Pipeline(source, CachedEmbedder(stub, None), sink, Decoder(), encoder, _settings(settings))
        began, cpu, first = time.perf_counter(), time.process_time(), 0
        with runtime_for_streaming():  # as `streamer run` does
            async with anyio.create_task_group() as tasks:
                await source.start(flow)
                tasks.start_soon(flow.run)
                if events is None:
                    await _signalled()
                else:
                    while (done := flow.statistics()).embedded_total < events or done.in_flight:
                        if done.embedded_total < events // WARM:
                            began, cpu, first = time.perf_counter(), time.process_time(), done.embedded_total
                        tenth = 10 * done.embedded_total // events
                        if tenth in (1, 5, 9):
                            marks.setdefault(tenth, resident())
                        await anyio.sleep(LOOK)
                seconds, busy = time.perf_counter() - began, time.process_time() - cpu
                flow.stop()
        await source.aclose()
    stages = {name: stage.sum / stage.count for name, stage in flow.times.stages.items() if stage.count}
    rate = None if events is None else ((events - first) / seconds, 1e6 * busy / (events - first))
    return {"rate": rate, "resident": [marks[mark] for mark in sorted(marks)], "peak": peak(), "stages": stages}


def _settings(settings: Settings) -> PipelineSettings:
    batch, delivery = settings.batch, settings.delivery
    return PipelineSettings(
        batch=BatchPolicy(batch.max_events, batch.max_bytes, batch.linger_ms / 1000),
        max_batches=BATCHES,
        max_in_flight_events=batch.max_in_flight_events,
        max_in_flight_bytes=batch.max_in_flight_bytes,
        commit_interval=delivery.commit_interval_ms / 1000,
        drain_timeout=delivery.drain_timeout_ms / 1000,
    )


async def _signalled() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as received:
        async for _ in received:
            return
