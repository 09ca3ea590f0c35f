"""What an indexer counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from streamer.core.verdicts import Reason, Verdict, VerdictKind
from streamer.indexer.snapshots.store import SnapshotStatistics
from streamer.telemetry.histogram import STEP_SECONDS, WAY_SECONDS, Histogram
from streamer.telemetry.recent import RecentMaximum

Stage: TypeAlias = Literal["judge", "publish", "commit", "search"]

# What verdicts are counted under: `kind/reason`, the reason empty but for an anomaly.
NO_VERDICTS: Final[Mapping[str, int]] = {
    f"{kind}/{reason}": 0
    for kind in get_args(VerdictKind)
    for reason in (get_args(Reason) if kind == "anomaly" else ("",))
}


def counted_as(verdict: Verdict) -> str:
    return f"{verdict.verdict}/{verdict.reason or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerStatistics:
    """Where the indexer stands. Names that end in `_total` only grow."""

    ready: bool = field(metadata={"help": "Whether the index has caught up with what the topic held at the start."})
    space: str
    dimensions: int = field(metadata={"help": "Components of each vector."})
    vectors: int = field(metadata={"help": "Vectors in the index."})
    capacity: int = field(metadata={"help": "Most vectors that the index keeps; older ones are evicted."})
    vector_bytes: int = field(metadata={"help": "Memory reserved for vectors."})
    restore_records: int = field(metadata={"help": "Records to read before the index is ready."})
    restore_remaining: int = field(metadata={"help": "Records still to read before the index is ready."})
    restore_seconds: float = field(metadata={"help": "How long the restore has taken so far, or took."})
    unacknowledged_batches: int = field(metadata={"help": "Batches of verdicts not yet acknowledged by the broker."})
    records_total: int = field(metadata={"help": "Records read from the vector topic."})
    deletions_total: int = field(metadata={"help": "Tombstones read from the vector topic."})
    malformed_total: int = field(metadata={"help": "Records that are no vector events and were ignored."})
    searches_total: int = field(metadata={"help": "Searches answered."})
    commit_failures_total: int = field(metadata={"help": "Offset commits that failed."})
    verdicts_refused_total: int = field(
        metadata={"help": "Verdicts given up because the broker refuses them in every form."}
    )
    store_failures_total: int = field(
        metadata={"help": "Calls to the database of vectors that were made again because they failed."}
    )
    foreign_total: Mapping[str, int] = field(
        metadata={"label": "space", "help": "Vector events of other spaces, which were ignored."}
    )
    verdicts_total: Mapping[str, int] = field(
        metadata={
            "label": ("verdict", "reason"),
            "help": "Verdicts published, by kind and, of an anomaly, by what makes it one.",
        }
    )
    p_value: Histogram = field(
        metadata={"help": "The p-values of verdicts: for ordinary events spread evenly from 0 to 1."}
    )
    oldest_event_age_seconds: float | None = field(
        metadata={"help": "Age of the event that has been in the index for longest."}
    )
    newest_event_age_seconds: float | None = field(metadata={"help": "Age of the event that came last."})
    end_to_end_seconds: Histogram = field(
        metadata={"help": "From the time of an input record to the acknowledgement of its verdict."}
    )
    stage_seconds: Mapping[str, Histogram] = field(
        metadata={
            "label": "stage",
            "help": "How long each stage takes: a batch to judge, publish and commit, a search.",
        }
    )
    clock_ahead_seconds: float = field(
        metadata={"help": "How far the latest time of a record of the last minute lies in the future."}
    )
    commit_age_seconds: Mapping[str, float] = field(
        metadata={
            "label": ("topic", "partition"),
            "help": "Seconds since the last commit while there is something to commit, else 0.",
        }
    )
    live_listeners: int = field(metadata={"help": "Clients that follow the live verdicts now."})
    live_missed_total: int = field(metadata={"help": "Live verdicts that slow clients missed."})
    thresholds: Mapping[str, float] = field(
        metadata={"label": "score", "help": "Similarity or score from which a verdict is given."}
    )
    snapshot: SnapshotStatistics | None

    def verdicts(self) -> dict[str, int]:
        """By kind alone."""
        counts = dict.fromkeys(get_args(VerdictKind), 0)
        for key, count in self.verdicts_total.items():
            counts[key.partition("/")[0]] += count
        return counts


class IndexerTimes:
    """How long what takes, in seconds of a clock that never jumps; `wall`: of the one that records have."""

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {stage: Histogram(STEP_SECONDS) for stage in get_args(Stage)}
        self.end_to_end = Histogram(WAY_SECONDS)
        self.clock_ahead = RecentMaximum()
        self._restore: tuple[float, float | None] | None = None  # beginning and end

    def restore_begins(self, now: float) -> None:
        self._restore = (now, None)

    def restore_ends(self, now: float) -> None:
        if self._restore is not None:
            self._restore = (self._restore[0], now)

    def restore_seconds(self, now: float) -> float:
        if self._restore is None:
            return 0.0
        begun, ended = self._restore
        return (now if ended is None else ended) - begun

    def judged(self, timestamps: Sequence[int], seconds: float, wall: float, now: float) -> None:
        """A batch of records with these times, in milliseconds since the epoch."""
        self.stages["judge"].observe(seconds)
        self.clock_ahead.note(max(timestamps) / 1000 - wall, now)

    def published(self, timestamps: Sequence[int], seconds: float, wall: float) -> None:
        """The broker has acknowledged the verdicts of these records, `seconds` after they were handed over."""
        self.stages["publish"].observe(seconds)
        self.end_to_end.observe_all([max(0.0, wall - time / 1000) for time in timestamps])
