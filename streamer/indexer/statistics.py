"""What an indexer counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.indexer.snapshots.store import SnapshotStatistics


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
    unacknowledged_batches: int = field(metadata={"help": "Batches of verdicts not yet acknowledged by the broker."})
    records_total: int = field(metadata={"help": "Records read from the vector topic."})
    deletions_total: int = field(metadata={"help": "Tombstones read from the vector topic."})
    malformed_total: int = field(metadata={"help": "Records that are no vector events and were ignored."})
    searches_total: int = field(metadata={"help": "Searches answered."})
    commit_failures_total: int = field(metadata={"help": "Offset commits that failed."})
    verdicts_refused_total: int = field(
        metadata={"help": "Verdicts given up because the broker refuses them in every form."}
    )
    foreign_total: Mapping[str, int] = field(
        metadata={"label": "space", "help": "Vector events of other spaces, which were ignored."}
    )
    verdicts_total: Mapping[str, int] = field(metadata={"label": "verdict", "help": "Verdicts published, by kind."})
    live_listeners: int = field(metadata={"help": "Clients that follow the live verdicts now."})
    live_missed_total: int = field(metadata={"help": "Live verdicts that slow clients missed."})
    thresholds: Mapping[str, float] = field(
        metadata={"label": "score", "help": "Similarity or score from which a verdict is given."}
    )
    snapshot: SnapshotStatistics | None
