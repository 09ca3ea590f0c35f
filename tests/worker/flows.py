"""A small pipeline, and patience with it."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

from streamer.core.decoding import Decoder
from streamer.protocols import Embedder
from streamer.telemetry.tracing import ConsumerTracing
from streamer.testing import SPACE, MemorySink, MemorySource
from streamer.worker.batching import BatchPolicy
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings


def pipeline(
    source: MemorySource,
    embedder: Embedder,
    sink: MemorySink,
    *,
    linger: float = 0.001,
    drain_timeout: float = 5.0,
    max_in_flight: int = 100,
    commit_interval: float = 0.003,
    poll_timeout: float = 0.01,
    repeats_uncommitted: bool = True,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    tracing: ConsumerTracing | None = None,
) -> Pipeline:
    settings = PipelineSettings(
        batch=BatchPolicy(max_events=7, linger=linger),
        max_batches=4,
        max_in_flight_events=max_in_flight,
        max_in_flight_bytes=1_000_000,
        commit_interval=commit_interval,
        drain_timeout=drain_timeout,
        poll_timeout=poll_timeout,
        repeats_uncommitted=repeats_uncommitted,
    )
    encoder = Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="dead-letters")
    return Pipeline(
        source, embedder, sink, Decoder(), encoder, settings, clock=clock, wall_clock=wall_clock, tracing=tracing
    )


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):  # coverage on a loaded machine
        while not condition():
            await anyio.lowlevel.checkpoint()
