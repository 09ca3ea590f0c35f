"""Which offsets are in flight, in what order their outcomes may leave, and what may be committed.

Per partition there is a window of tracked offsets. An offset is *settled* when its outcome is known and *complete*
when the broker has acknowledged that outcome. Outcomes are released in offset order (the window is the reorder
buffer), and only the completed prefix is committable. Until it is committed a crash repeats it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, groupby, islice, repeat
from operator import lt

from streamer.core.events import Origin, Outcome, Record, TopicPartition


class PartitionWindow:
    """The offsets of one partition between read and committed. Gaps (compaction, transaction markers) cost nothing."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.in_flight_bytes = 0
        self.committable: int | None = None  # NEXT offset to consume once everything before it is complete
        self.uncommitted = 0  # events of the completed prefix
        self.first: int | None = None  # offset that was read
        self._highest = -1
        self._unreleased: deque[int] = deque()
        self._settled: dict[int, Outcome] = {}
        self._incomplete: deque[tuple[int, int, float]] = deque()  # offset, bytes, when it was read
        self._completed: set[int] = set()
        self._uncommitted_since: float | None = None  # since the last commit, or since the first record after it
        self._uncommitted: deque[tuple[int, int]] = deque()  # what became committable at a time, how many events

    def __repr__(self) -> str:
        return (
            f"<PartitionWindow: epoch {self.epoch}, {self.in_flight} in flight from {self.oldest} to {self._highest}, "
            f"{len(self._settled)} settled and held back, committable {self.committable}>"
        )

    @property
    def in_flight(self) -> int:
        """Offsets tracked and not yet part of the completed prefix."""
        return len(self._incomplete)

    @property
    def oldest(self) -> int | None:
        """The lowest offset that is not complete: where the low watermark stands."""
        return self._incomplete[0][0] if self._incomplete else None

    @property
    def oldest_read_at(self) -> float | None:
        """When the event at `oldest` was read."""
        return self._incomplete[0][2] if self._incomplete else None

    @property
    def uncommitted_since(self) -> float | None:
        """The last commit, or the first record after it where that is later; None while all that was read is
        committed."""
        return self._uncommitted_since

    def track(self, offsets: Sequence[int], sizes: Sequence[int], now: float) -> Sequence[bool]:
        """Start tracking; False for an offset seen before (the consumer was sought back over it)."""
        is_new = [*map(lt, (self._highest, *offsets), offsets)]
        if not all(is_new):
            is_new = [*map(lt, accumulate(offsets, max, initial=self._highest), offsets)]
            offsets, sizes = [*compress(offsets, is_new)], [*compress(sizes, is_new)]
        if not offsets:
            return is_new
        if self.first is None:
            self.first = offsets[0]
        self._highest = offsets[-1]
        self._unreleased.extend(offsets)
        self._incomplete.extend(zip(offsets, sizes, repeat(now)))
        self.in_flight_bytes += sum(sizes)
        if self._uncommitted_since is None:
            self._uncommitted_since = now
        return is_new

    def settle(self, offsets: list[int], outcomes: list[Outcome], released: list[Outcome]) -> None:
        """Note outcomes; `released` grows by the outcomes that may now leave, in offset order."""
        if not self._settled and offsets == [*islice(self._unreleased, len(offsets))]:  # nearly always
            for _ in offsets:
                self._unreleased.popleft()
            released += outcomes
            return
        self._settled.update(zip(offsets, outcomes, strict=True))
        while self._unreleased and self._unreleased[0] in self._settled:
            released.append(self._settled.pop(self._unreleased.popleft()))

    def complete(self, offsets: list[int]) -> None:
        if not self._completed and offsets == [offset for offset, _, _ in islice(self._incomplete, len(offsets))]:
            for _ in offsets:  # nearly always
                self.in_flight_bytes -= self._incomplete.popleft()[1]
            self._grow(offsets[-1] + 1, len(offsets))
            return
        self._completed.update(offsets)
        before, last = len(self._incomplete), None
        while self._incomplete and self._incomplete[0][0] in self._completed:
            last, size, _ = self._incomplete.popleft()
            self._completed.discard(last)
            self.in_flight_bytes -= size
        if last is not None:
            self._grow(last + 1, before - len(self._incomplete))

    def _grow(self, committable: int, count: int) -> None:
        self.committable = committable
        self.uncommitted += count
        self._uncommitted.append((committable, count))

    def committed(self, offset: int, now: float) -> None:
        self._uncommitted_since = None if offset > self._highest else now
        while self._uncommitted and self._uncommitted[0][0] <= offset:
            self.uncommitted -= self._uncommitted.popleft()[1]


@dataclass(frozen=True, slots=True)
class OffsetStatistics:
    """A snapshot. `oldest` maps a partition with work in flight to its lowest incomplete offset. `oldest_age`: for how
    long the event there has been in flight, 0.0 where none is; `commit_age`: seconds without a commit, 0.0 where all
    that was read is committed."""

    partitions: int
    in_flight: int
    in_flight_bytes: int
    oldest: Mapping[TopicPartition, int]
    oldest_age: Mapping[TopicPartition, float]
    commit_age: Mapping[TopicPartition, float]


class OffsetTracker:
    """All partitions of the current assignment; work of an earlier one is recognised by its epoch and ignored."""

    def __init__(self) -> None:
        self._epoch = 0
        self._windows: dict[TopicPartition, PartitionWindow] = {}
        self._committed: dict[TopicPartition, int] = {}

    def __repr__(self) -> str:
        windows = ", ".join(f"{tp}: {window.in_flight} from {window.oldest}" for tp, window in self._windows.items())
        return f"<OffsetTracker: epoch {self._epoch}, in flight {windows or 'nothing'}>"

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self._windows)

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        """Begin a new epoch with fresh windows for these partitions; others keep theirs."""
        self._epoch += 1
        for tp in tps:
            self._windows[tp] = PartitionWindow(self._epoch)
            self._committed.pop(tp, None)

    def revoke(self, tps: Iterable[TopicPartition]) -> None:
        """Forget these partitions: whatever of theirs finishes later is stale."""
        for tp in tps:
            self._windows.pop(tp, None)
            self._committed.pop(tp, None)

    def is_current(self, origin: Origin) -> bool:
        window = self._windows.get(origin.tp)
        return window is not None and window.epoch == origin.epoch

    def track(self, records: Sequence[Record], now: float) -> list[Origin | None]:
        """Where each of these records is from; None when its partition is not ours or its offset was tracked before in
        this epoch. `now`: seconds of any clock that never jumps, the one of `committed` and `statistics`."""
        origins: list[Origin | None] = []
        for tp, neighbours in groupby([record.tp for record in records]):
            stretch = records[len(origins) : len(origins) + len([*neighbours])]
            if (window := self._windows.get(tp)) is None:
                origins += [None] * len(stretch)
                continue
            offsets, epoch = [record.offset for record in stretch], window.epoch
            is_new = window.track(offsets, [len(record.value or b"") for record in stretch], now)
            origins += [Origin(tp, offset, epoch) if new else None for offset, new in zip(offsets, is_new, strict=True)]
        return origins

    def settle(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Note outcomes; returns what may leave now, of each partition in offset order. Stale ones are ignored."""
        released: list[Outcome] = []
        for window, offsets, stretch in self._stretches(outcomes):
            window.settle(offsets, stretch, released)
        return released

    def current(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Those that are not stale."""
        return [outcome for _, _, stretch in self._stretches(outcomes) for outcome in stretch]

    def complete(self, outcomes: Iterable[Outcome]) -> None:
        """These are acknowledged. A stale one is ignored: its new owner reads it again."""
        for window, offsets, _ in self._stretches(outcomes):
            window.complete(offsets)

    def _stretches(self, outcomes: Iterable[Outcome]) -> Iterator[tuple[PartitionWindow, list[int], list[Outcome]]]:
        """Outcomes of one partition that follow each other, with their offsets; without those that are stale."""
        offsets: list[int] = []
        stretch: list[Outcome] = []
        tp, epoch, window = None, 0, None
        for outcome in outcomes:
            origin = outcome.origin
            if origin.tp is not tp or origin.epoch != epoch:
                if window is not None and stretch:
                    yield window, offsets, stretch
                offsets, stretch = [], []
                tp, epoch = origin.tp, origin.epoch
                window = self._windows.get(tp)
                if window is not None and window.epoch != epoch:
                    window = None
            if window is not None:
                offsets.append(origin.offset)
                stretch.append(outcome)
        if window is not None and stretch:
            yield window, offsets, stretch

    def committable(self, tps: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """The next offset to consume per partition, only where it moved since `committed`."""
        chosen = self._windows if tps is None else [tp for tp in tps if tp in self._windows]
        moved = {}
        for tp in chosen:
            offset = self._windows[tp].committable
            if offset is not None and offset != self._committed.get(tp):
                moved[tp] = offset
        return moved

    def committed(self, offsets: Mapping[TopicPartition, int], now: float = 0.0) -> None:
        for tp, offset in offsets.items():
            if (window := self._windows.get(tp)) is not None:
                self._committed[tp] = offset
                window.committed(offset, now)

    def committed_offsets(self) -> dict[TopicPartition, int]:
        """The next offset to consume per partition, as the group has it; without those of which nothing was read."""
        firsts = {tp: window.first for tp, window in self._windows.items() if window.first is not None}
        return firsts | self._committed

    def in_flight(self, tps: Iterable[TopicPartition] | None = None) -> int:
        chosen = self._windows if tps is None else [tp for tp in tps if tp in self._windows]
        return sum(self._windows[tp].in_flight for tp in chosen)

    def mean_bytes(self) -> float:
        """Of the values of the records in flight; 0.0 where there are none."""
        count = self.in_flight()
        return self._in_flight_bytes() / count if count else 0.0

    def _in_flight_bytes(self) -> int:
        return sum(window.in_flight_bytes for window in self._windows.values())

    def most_uncommitted(self) -> int:
        """Events that are complete and not committed, of the partition that has most of them."""
        return max((window.uncommitted for window in self._windows.values()), default=0)

    def with_room(self, max_events: int, max_bytes: int, max_uncommitted: int | None = None) -> list[TopicPartition]:
        """Partitions that may read on: fewer events and fewer bytes in flight than these bounds, and fewer events that
        are complete and not committed."""
        return [
            tp
            for tp, window in self._windows.items()
            if window.in_flight < max_events
            and window.in_flight_bytes < max_bytes
            and (max_uncommitted is None or window.uncommitted < max_uncommitted)
        ]

    def statistics(self, now: float = 0.0) -> OffsetStatistics:
        return OffsetStatistics(
            partitions=len(self._windows),
            in_flight=self.in_flight(),
            in_flight_bytes=self._in_flight_bytes(),
            oldest={tp: w.oldest for tp, w in self._windows.items() if w.oldest is not None},
            oldest_age={tp: _age(w.oldest_read_at, now) for tp, w in self._windows.items()},
            commit_age={tp: _age(w.uncommitted_since, now) for tp, w in self._windows.items()},
        )


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
