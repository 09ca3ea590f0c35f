"""What a pipeline is told."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.worker.batching import BatchPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Seconds and counts. The bounds are per partition: beyond them it is not polled. `max_uncommitted_events`: that
    are complete, so that only a crash repeats them; None where it does not. Half of them are committed at once."""

    batch: BatchPolicy
    max_batches: int
    max_in_flight_events: int
    max_in_flight_bytes: int
    commit_interval: float
    drain_timeout: float
    max_uncommitted_events: int | None = None
    poll_timeout: float = 0.2
