"""How far an indexer has come in its topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from streamer.core.events import Record, TopicPartition
from streamer.indexer.snapshots.format import Offsets, TopicBounds
from streamer.telemetry.waiting import Reason, Waiting

Phase: TypeAlias = Literal["not started", "loading the snapshot", "restoring", "following", "stopped"]
REASONS: Final[Mapping[Phase, Reason | None]] = {  # why it is not ready, in one word
    "not started": "starting", "loading the snapshot": "loading_snapshot", "restoring": "restoring",
    "following": None, "stopped": "stopped",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Progress:
    """Offsets are the next ones of each partition.

    `beginning_offsets` and `end_offsets`: of the log when the indexer started. `start_offsets`: where it began to read,
    later than the log begins where a snapshot made up for the rest. `judged`: up to here verdicts were given by an
    earlier run. `remembered`: what the judge has taken in; `waiting`: records that have been read since. `committed`:
    up to here verdicts are published for good.
    """

    beginning_offsets: Offsets = field(default_factory=dict)
    end_offsets: Offsets = field(default_factory=dict)
    start_offsets: Offsets = field(default_factory=dict)
    judged: Offsets = field(default_factory=dict)
    remembered: dict[TopicPartition, int] = field(default_factory=dict)
    waiting: int = 0
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    def begin(self, beginning_offsets: Offsets, end_offsets: Offsets, committed: Offsets) -> list[TopicPartition]:
        """The partitions whose commit lies beyond their end: it belongs to a topic that has been deleted since, and
        nothing of this one was judged."""
        self.beginning_offsets, self.end_offsets = dict(beginning_offsets), dict(end_offsets)
        self.judged = {tp: offset for tp, offset in committed.items() if offset <= end_offsets.get(tp, 0)}
        self.committed = dict(self.judged)
        return [tp for tp in committed if tp not in self.judged]

    def read_from(self, positions: Offsets) -> None:
        self.start_offsets = dict(positions)
        self.remembered = dict(positions)

    def waiting_in(self, phase: Phase, positions: Offsets, problem: str | None) -> Waiting | None:
        """None once restored; else what it waits for, and how far it has come. `problem`: why the vectors, which are
        kept elsewhere, cannot be had."""
        reason, text = REASONS[phase], str(phase)
        if phase == "restoring":
            left = remaining(self.end_offsets, positions)
            text = f"restoring: {self.restore_records - left:,} of {self.restore_records:,} records read"
        if problem is not None and phase != "stopped":
            return Waiting("index", problem if reason is None else f"{text}; {problem}")
        return None if reason is None else Waiting(reason, text)

    def to_go_on_from(self, stored: Offsets) -> dict[TopicPartition, int]:
        """Where to read on from, when everything up to `stored` is remembered elsewhere: at what has not been judged,
        or not been stored. Offsets beyond the end are of a topic that has been deleted since."""
        found = {}
        for tp, end in self.end_offsets.items():
            beginning, reached = self.beginning_offsets.get(tp, 0), stored.get(tp, 0)
            found[tp] = max(beginning, min(reached if reached <= end else 0, self.judged.get(tp, 0)))
        return found

    def is_new(self, record: Record) -> bool:
        """Whether no earlier run has judged it."""
        return record.offset >= self.judged.get(record.tp, 0)

    def goes_beyond_judged(self, upto: Offsets) -> bool:
        """Whether any record before these offsets may be new."""
        return any(offset > self.judged.get(tp, 0) for tp, offset in upto.items())

    def divided(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Those that an earlier run has judged, and those that are new."""
        old: list[Record] = []
        new: list[Record] = []
        for record in records:
            (new if self.is_new(record) else old).append(record)
        return old, new

    @property
    def restore_records(self) -> int:
        """Offsets to read before it has caught up with what there was at its start."""
        return remaining(self.end_offsets, self.start_offsets)

    def bounds(self) -> TopicBounds:
        return TopicBounds(
            beginning_offsets=self.beginning_offsets, end_offsets=self.end_offsets, committed=self.committed
        )


def remaining(until: Offsets, positions: Offsets) -> int:
    """Offsets between where reading is and `until`."""
    return sum(max(0, offset - positions.get(tp, 0)) for tp, offset in until.items())
