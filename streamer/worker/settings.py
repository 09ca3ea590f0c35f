"""What a pipeline is told."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.worker.batching import BatchPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Seconds and counts. The bounds are per partition: beyond them it is not polled. `repeats_uncommitted`: whether a
    crash repeats what is complete and not committed."""

    batch: BatchPolicy
    max_batches: int
    max_in_flight_events: int
    max_in_flight_bytes: int
    commit_interval: float
    drain_timeout: float
    repeats_uncommitted: bool = True
    poll_timeout: float = 0.2

    @property
    def max_uncommitted_events(self) -> int | None:
        """That are complete; None where there may be any number. Half of them are committed at once."""
        return max(1, self.max_in_flight_events // 2) if self.repeats_uncommitted else None
