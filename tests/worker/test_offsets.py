from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamer.core.events import Origin, Outcome, Record, Tombstone, TopicPartition
from streamer.worker.offsets import OffsetTracker

A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)


def track(tracker: OffsetTracker, tp: TopicPartition, offset: int, size: int = 0) -> Origin | None:
    (origin,) = tracker.track([Record(tp, offset, b"k", bytes(size), 0)], 0.0)
    return origin


def outcome(origin: Origin) -> Outcome:
    return Tombstone(origin, Record(origin.tp, origin.offset, b"k", None, 0), "k")


def drawn_from(origins: list[Origin], data: st.DataObject) -> list[Origin]:
    """One or more, as likely as not a run of neighbours, taken out."""
    start = data.draw(st.integers(0, len(origins) - 1))
    drawn = origins[start : start + data.draw(st.integers(1, 4))]
    del origins[start : start + len(drawn)]
    return data.draw(st.permutations(drawn)) if data.draw(st.booleans()) else drawn


class Tracking(RuleBasedStateMachine):
    """Any interleaving of read, settle, acknowledge, commit and rebalance against a naive model of sets."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.next = {A: 0, B: 0}
        self.reset()
        self.stale: list[Origin] = []

    def reset(self) -> None:
        self.tracked: dict[TopicPartition, list[Origin]] = {A: [], B: []}
        self.unsettled: list[Origin] = []
        self.released: dict[TopicPartition, list[int]] = {A: [], B: []}
        self.unacked: list[Origin] = []
        self.acked: set[tuple[TopicPartition, int]] = set()
        self.last_commit: dict[TopicPartition, int] = {}

    @initialize()
    def join(self) -> None:
        self.tracker.assign([A, B])

    @rule(tp=st.sampled_from([A, B]), gap=st.integers(0, 3))
    def read(self, tp: TopicPartition, gap: int) -> None:
        offset = self.next[tp] + gap
        origin = track(self.tracker, tp, offset, 10)
        assert origin is not None
        assert track(self.tracker, tp, offset, 10) is None, "an offset is tracked once"
        self.next[tp] = offset + 1
        self.tracked[tp].append(origin)
        self.unsettled.append(origin)

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        some = drawn_from(self.unsettled, data)
        among_stale = [*self.stale[-1:], *some, *self.stale[-1:]]
        for released in self.tracker.settle(map(outcome, among_stale)):
            assert released.origin in self.tracked[released.origin.tp], "of this assignment"
            self.released[released.origin.tp].append(released.origin.offset)
            self.unacked.append(released.origin)

    @precondition(lambda self: self.unacked)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        some = drawn_from(self.unacked, data)
        self.tracker.complete(map(outcome, [*self.stale[-1:], *some, *self.stale[-1:]]))
        self.acked.update((origin.tp, origin.offset) for origin in some)

    @precondition(lambda self: self.unacked)
    @rule(data=st.data())
    def acknowledge_while_a_commit_is_underway(self, data: st.DataObject) -> None:
        offsets = self.tracker.committable()
        self.acknowledge(data)
        self.tracker.committed(offsets)
        self.last_commit.update(offsets)

    @rule()
    def commit(self) -> None:
        offsets = self.tracker.committable()
        for tp, offset in offsets.items():
            assert offset > self.last_commit.get(tp, -1)
            for origin in self.tracked[tp]:
                if origin.offset < offset:
                    assert (tp, origin.offset) in self.acked, "never past unfinished work"
        self.tracker.committed(offsets)
        self.last_commit.update(offsets)
        assert self.tracker.committable() == {}

    @rule()
    def rebalance(self) -> None:
        self.stale += self.unsettled + self.unacked
        self.tracker.revoke([A, B])
        assert track(self.tracker, A, 10_000) is None, "not ours"
        self.tracker.assign([A, B])
        self.next = {A: 0, B: 0}  # the same offsets come again
        self.reset()

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def finish_stale_work(self, data: st.DataObject) -> None:
        some = drawn_from(self.stale, data)
        before = self.tracker.statistics()
        assert self.tracker.settle(map(outcome, some)) == []
        self.tracker.complete(map(outcome, some))
        assert self.tracker.statistics() == before

    @invariant()
    def released_in_offset_order_without_holes(self) -> None:
        for tp, origins in self.tracked.items():
            settled = takewhile(lambda origin: origin not in self.unsettled, origins)
            assert self.released[tp] == [origin.offset for origin in settled]

    @invariant()
    def in_flight_is_what_lies_behind_the_completed_prefix(self) -> None:
        expected = 0
        for tp in (A, B):
            offsets = [origin.offset for origin in self.tracked[tp]]
            while offsets and (tp, offsets[0]) in self.acked:
                offsets.pop(0)
            expected += len(offsets)
        statistics = self.tracker.statistics()
        assert statistics.in_flight == expected
        assert statistics.in_flight_bytes == 10 * expected

    @invariant()
    def uncommitted_is_the_completed_prefix_beyond_the_last_commit(self) -> None:
        most = 0
        for tp in (A, B):
            prefix = takewhile(lambda origin: (origin.tp, origin.offset) in self.acked, self.tracked[tp])
            since = self.last_commit.get(tp, 0)
            most = max(most, sum(origin.offset >= since for origin in prefix))
        assert self.tracker.most_uncommitted() == most


TestTracking = Tracking.TestCase


@given(st.permutations(range(8)))
def test_everything_done_makes_the_offset_after_the_last_committable(order: list[int]) -> None:
    tracker = OffsetTracker()
    tracker.assign([A])
    origins = [track(tracker, A, 3 * n) for n in range(8)]
    for n in order:
        origin = origins[n]
        assert origin is not None
        for released in tracker.settle([outcome(origin)]):
            tracker.complete([released])
    assert tracker.committable() == {A: 22}
    assert tracker.in_flight() == 0
    assert tracker.statistics().oldest == {}


def test_room_counts_events_and_bytes() -> None:
    tracker = OffsetTracker()
    tracker.assign([A, B])
    for offset in range(3):
        track(tracker, A, offset, 1)
    track(tracker, B, 0, 100)
    assert tracker.with_room(3, 1000) == [B]
    assert tracker.with_room(10, 100) == [A]


def test_what_is_complete_and_not_committed_takes_room() -> None:
    tracker = OffsetTracker()
    tracker.assign([A])
    origins = [track(tracker, A, offset) for offset in (0, 7, 8, 9)]
    tracker.complete(tracker.settle(outcome(origin) for origin in origins[:3] if origin))
    assert tracker.in_flight() == 1
    assert tracker.most_uncommitted() == 3
    assert tracker.with_room(2, 1) == tracker.with_room(2, 1, 4) == [A]
    assert tracker.with_room(2, 1, 3) == []
    tracker.committed({A: 8})
    assert tracker.most_uncommitted() == 3, "an offset in the midst of what was completed at once"
    tracker.committed({A: 9})
    assert tracker.most_uncommitted() == 0
    assert tracker.with_room(2, 1, 3) == [A]


def test_a_sought_back_consumer_does_not_track_twice() -> None:
    tracker = OffsetTracker()
    tracker.assign([A])
    assert track(tracker, A, 5) is not None
    assert track(tracker, A, 4) is None
    assert track(tracker, A, 5) is None
    assert track(tracker, A, 6) is not None
    again = [Record(A, offset, b"k", b"12345", 0) for offset in (5, 6, 8, 7, 8, 9)]
    others = [Record(B, 1, b"k", b"12345", 0)]
    new = tracker.track([*again, *others, *again], 0.0)
    assert [origin and (origin.tp, origin.offset) for origin in new] == [
        None, None, (A, 8), None, None, (A, 9), *[None] * 7,
    ]  # fmt: skip
    statistics = tracker.statistics()
    assert (statistics.in_flight, statistics.in_flight_bytes) == (4, 10)


def test_a_debugger_reads_where_a_partition_stands() -> None:
    tracker = OffsetTracker()
    assert repr(tracker) == "<OffsetTracker: epoch 0, in flight nothing>"
    tracker.assign([A])
    first, _, third = (track(tracker, A, offset, 10) for offset in (5, 7, 8))
    assert first is not None
    assert third is not None
    tracker.settle([outcome(first)])
    tracker.settle([outcome(third)])
    tracker.complete([outcome(first)])
    assert repr(tracker) == "<OffsetTracker: epoch 1, in flight texts/0: 2 from 7>"
    assert repr(tracker._windows[A]) == (
        "<PartitionWindow: epoch 1, 2 in flight from 7 to 8, 1 settled and held back, committable 6>"
    )
