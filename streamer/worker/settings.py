"""What a pipeline is told."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.worker.batching import BatchPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Seconds and counts. The in-flight bounds are per partition: beyond them it is not polled."""

    batch: BatchPolicy
    max_batches: int
    max_in_flight_events: int
    max_in_flight_bytes: int
    commit_interval: float
    drain_timeout: float
    poll_timeout: float = 0.2
