"""How far the new side has come, and whether the readers may be moved to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.core.events import TopicPartition


@dataclass(frozen=True, slots=True)
class Position:
    """Offsets of a partition: the first that the log has, the group's next one (None: nothing committed), the end."""

    begin: int
    committed: int | None
    end: int

    @property
    def done(self) -> int:
        """Offsets of the log that the group has behind it."""
        return min(max(self.begin, self.committed or 0), self.end) - self.begin

    @property
    def lag(self) -> int:
        return self.end - self.begin - self.done


@dataclass(frozen=True, slots=True)
class Progress:
    """`positions`: of the input partitions. `rate`: records a second, None where nobody knows."""

    positions: Mapping[TopicPartition, Position]
    rate: float | None = None

    @property
    def records(self) -> int:
        return sum(each.end - each.begin for each in self.positions.values())

    @property
    def done(self) -> int:
        return sum(each.done for each in self.positions.values())

    @property
    def lag(self) -> int:
        return sum(each.lag for each in self.positions.values())

    @property
    def share(self) -> float:
        """Of the log, that is done; of an empty one all is."""
        return self.done / self.records if self.records else 1.0

    @property
    def eta(self) -> float | None:
        """Seconds until the backlog of now is done; None where nothing moves."""
        if not self.lag:
            return 0.0
        return self.lag / self.rate if self.rate else None


def progress(
    before: Mapping[TopicPartition, Position], after: Mapping[TopicPartition, Position], seconds: float
) -> Progress:
    """From two looks, so many seconds apart."""
    done = sum(each.done for each in after.values()) - sum(each.done for each in before.values())
    same = before.keys() == after.keys()
    return Progress(after, max(0.0, done / seconds) if same and seconds > 0 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What the indexer says of its new side. `problem`: why it does not hold it."""

    ready: bool
    state: str | None
    lag: int
    problem: str | None


def reasons_to_wait(reached: Progress, index: Index | str | None, most: int) -> Sequence[str]:
    """Why readers should not be moved yet; empty when they may. `index`: a text is why no indexer answers, None: there
    is none to move. `most`: records that the new side may be behind."""
    reasons = []
    if not reached.positions:
        reasons.append("the input has no partitions")
    if reached.lag > most:
        reasons.append(f"the new workers are {reached.lag:,} records behind, more than {most:,}")
    if isinstance(index, str):
        reasons.append(index)
    elif index is not None:
        if index.problem is not None:
            reasons.append(f"the indexer does not hold the new index: {index.problem}")
        elif not index.ready:
            reasons.append(f"the new index is not ready: {index.state or 'it has not begun'}")
        elif index.lag > most:
            reasons.append(f"the new index is {index.lag:,} vectors behind, more than {most:,}")
    return reasons
