"""What a worker's flow counts and measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from streamer.core.events import Outcome
from streamer.telemetry.histogram import SIZES, STEP_SECONDS, WAY_SECONDS, Histogram
from streamer.telemetry.recent import RecentMaximum
from streamer.telemetry.tracing import trace_of
from streamer.worker.batching import Cut

Stage: TypeAlias = Literal["queue", "window", "publish", "commit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatistics:
    """Counters since the start, and what is in flight now."""

    records_total: int = field(metadata={"help": "Records read, each counted once per assignment of its partition."})
    embedded_total: int = field(metadata={"help": "Vector events that the broker has acknowledged."})
    cache_hits_total: int = field(metadata={"help": "Vector events whose vector came from the cache."})
    tombstones_total: int = field(metadata={"help": "Tombstones passed on to the vector topic."})
    dead_letters_total: Mapping[str, int] = field(
        metadata={"label": "kind", "help": "Events published to the dead-letter topic, by kind."}
    )
    stale_total: int = field(metadata={"help": "Results dropped because their partition was revoked or read again."})
    batches_total: int = field(metadata={"help": "Micro-batches sent to be embedded."})
    commits_total: int = field(metadata={"help": "Successful offset commits."})
    commit_failures_total: int = field(
        metadata={"help": "Offset commits that failed; the next one covers their offsets."}
    )
    rebalances_total: int = field(metadata={"help": "Assignments received from the consumer group."})
    partitions: int = field(metadata={"help": "Input partitions assigned now."})
    in_flight: int = field(metadata={"help": "Events read and not yet acknowledged."})
    in_flight_bytes: int = field(metadata={"help": "Bytes of the events in flight."})
    batches_in_flight: int = field(metadata={"help": "Micro-batches being embedded now."})
    lowest_unfinished_offset: Mapping[str, int] = field(
        metadata={"label": "partition", "help": "Lowest offset per partition that is not acknowledged yet."}
    )


class FlowTimes:
    """How long what takes, and how large batches are. Times are seconds of a clock that never jumps, `wall` those since
    the epoch, which records have."""

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {stage: Histogram(STEP_SECONDS) for stage in get_args(Stage)}
        self.end_to_end = Histogram(WAY_SECONDS)
        self.batch_size: dict[str, Histogram] = {cut: Histogram(SIZES) for cut in get_args(Cut)}
        self.clock_ahead = RecentMaximum()

    def read(self, newest_ms: int, wall: float, now: float) -> None:
        """Records came; the latest timestamp among them is `newest_ms`."""
        self.clock_ahead.note(newest_ms / 1000 - wall, now)

    def cut(self, cut: Cut, size: int, oldest: float, slot_free_since: float, now: float) -> None:
        """A batch of `size` events whose `oldest` arrived then: it waited for a slot, and from then on for more."""
        self.batch_size[cut].observe(size)
        self.stages["queue"].observe(max(0.0, slot_free_since - oldest))
        self.stages["window"].observe(now - max(oldest, slot_free_since))

    def published(self, outcomes: Sequence[Outcome], seconds: float, wall: float) -> None:
        """The broker has acknowledged these, `seconds` after they were handed over."""
        self.stages["publish"].observe(seconds)
        times = [outcome.record.timestamp for outcome in outcomes]
        if times and min(times) < 0:  # a record without a time has a negative one
            outcomes = [outcome for outcome in outcomes if outcome.record.timestamp >= 0]
            times = [outcome.record.timestamp for outcome in outcomes]
        if not times:
            return
        oldest = min(times)
        self.end_to_end.observe_all(
            [wall - time / 1000 for time in times]
            if max(times) <= wall * 1000
            else [max(0.0, wall - time / 1000) for time in times]
        )
        if (trace := trace_of(outcomes[times.index(oldest)].record.headers)) is not None:
            self.end_to_end.mark(max(0.0, wall - oldest / 1000), trace, wall)
