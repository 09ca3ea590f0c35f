"""How far an indexer has come in its topic."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.core.events import Record, TopicPartition
from streamer.indexer.snapshots.format import Offsets, TopicBounds


@dataclass(slots=True, kw_only=True)
class Progress:
    """Offsets are the next ones of each partition.

    `begins` and `ends`: of the log when the indexer started. `starts`: where it began to read, later than the log where
    a snapshot made up for the rest. `judged`: up to here verdicts were given by an earlier run. `remembered`: what the
    judge has taken in; `waiting`: records that have been read since. `committed`: up to here verdicts are published for
    good.
    """

    begins: Offsets = field(default_factory=dict)
    ends: Offsets = field(default_factory=dict)
    starts: Offsets = field(default_factory=dict)
    judged: Offsets = field(default_factory=dict)
    remembered: dict[TopicPartition, int] = field(default_factory=dict)
    waiting: int = 0
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    def begin(self, begins: Offsets, ends: Offsets, committed: Offsets) -> list[TopicPartition]:
        """The partitions whose commit lies beyond their end: it belongs to a topic that has been deleted since, and
        nothing of this one was judged."""
        self.begins, self.ends = dict(begins), dict(ends)
        self.judged = {tp: offset for tp, offset in committed.items() if offset <= ends.get(tp, 0)}
        self.committed = dict(self.judged)
        return [tp for tp in committed if tp not in self.judged]

    def read_from(self, positions: Offsets) -> None:
        self.starts = dict(positions)
        self.remembered = dict(positions)

    def is_new(self, record: Record) -> bool:
        """Whether no earlier run has judged it."""
        return record.offset >= self.judged.get(record.tp, 0)

    @property
    def restore_records(self) -> int:
        """Offsets to read before it has caught up with what there was at its start."""
        return remaining(self.ends, self.starts)

    def bounds(self) -> TopicBounds:
        return TopicBounds(begins=self.begins, ends=self.ends, committed=self.committed)


def remaining(until: Offsets, positions: Offsets) -> int:
    """Offsets between where reading is and `until`."""
    return sum(max(0, offset - positions.get(tp, 0)) for tp, offset in until.items())
