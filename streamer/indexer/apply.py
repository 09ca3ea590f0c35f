"""What a batch of records of the vector topic does to the memory of one vector space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal, TypeAlias

from streamer.core.events import Record
from streamer.core.vector_events import Deletion, Malformed, VectorEvent, decode_vector_events
from streamer.core.vectors import Space
from streamer.core.verdicts import Verdict
from streamer.indexer.vector_columns import read_columns
from streamer.indexer.verdicts.judge import Judge

_FEWEST_IN_COLUMNS: Final = 16  # below, columns cost more than objects
_Step: TypeAlias = Literal["judge", "restore", "delete"]


@dataclass(slots=True)
class AppliedRecords:
    """What came of a batch: verdicts in order of arrival and the records that they judge, ids deleted, and what was
    left aside, with the reason."""

    verdicts: list[Verdict] = field(default_factory=list)
    judged: list[Record] = field(default_factory=list)
    deletions: int = 0
    malformed: list[tuple[Record, str]] = field(default_factory=list)
    foreign: list[VectorEvent] = field(default_factory=list)


def apply_records(
    judge: Judge,
    space: Space,
    records: Sequence[Record],
    is_new: Callable[[Record], bool] | None,
    decoded: Callable[[], object] = lambda: None,
) -> AppliedRecords:
    """Remember, judge (new records) or restore (older ones), and forget, in order of arrival. Never raises.

    `is_new`: whether no earlier run has judged a record; None where one has judged all of them. `decoded` is called,
    perhaps several times, before what leaves the interpreter to other threads for the most part.
    Vectors of another space are left aside: a cosine between two spaces is a number without a meaning.
    """
    applied = AppliedRecords()
    if is_new is not None or not judge.takes_columns:
        decoded()
        _apply(judge, space, records, is_new, applied)
        return applied
    # Many events are remembered at once, where that gives the same: between two tombstones, and if they are plain.
    for run in _runs(records):
        columns = read_columns(run, space) if len(run) >= _FEWEST_IN_COLUMNS else None
        decoded()
        if columns is None:
            _apply(judge, space, run, None, applied)
        else:
            judge.restore_columns(columns)
    return applied


def _runs(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Of tombstones, and of records that are none."""
    if [record.value for record in records].count(None) in (0, len(records)):  # nearly always, and in no time
        yield records
    else:
        yield from (list(run) for _, run in groupby(records, key=_is_tombstone))


def _is_tombstone(record: Record) -> bool:
    return record.value is None


def _apply(
    judge: Judge,
    space: Space,
    records: Sequence[Record],
    is_new: Callable[[Record], bool] | None,
    applied: AppliedRecords,
) -> None:
    steps: list[tuple[_Step, VectorEvent | Deletion]] = []
    for record, event in zip(records, decode_vector_events(records), strict=True):
        if isinstance(event, Malformed):
            applied.malformed.append((record, event.reason))
        elif isinstance(event, Deletion):
            steps.append(("delete", event))
        elif event.space != space.id:
            applied.foreign.append(event)
        elif event.vector.shape != (space.dimensions,):
            reason = f"{event.vector.size} dimensions, but its space has {space.dimensions}"
            applied.malformed.append((record, reason))
        else:
            new = is_new is not None and is_new(record)
            steps.append(("judge" if new else "restore", event))
            if new:
                applied.judged.append(record)
    for step, group in groupby(steps, key=itemgetter(0)):
        inputs = [event for _, event in group]
        events = [event for event in inputs if isinstance(event, VectorEvent)]
        if step == "judge":
            applied.verdicts += judge.judge(events)
        elif step == "restore":
            judge.restore(events)
        else:
            applied.deletions += sum(judge.forget(event.id) for event in inputs)
