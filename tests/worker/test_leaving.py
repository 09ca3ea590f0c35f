"""Outcomes on their way out: each partition's in order, the partitions in turns."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Origin, Outcome, Record, Tombstone, TopicPartition
from streamer.worker.leaving import Leaving


def outcome(partition: int, offset: int) -> Outcome:
    tp = TopicPartition("texts", partition)
    return Tombstone(Origin(tp, offset, 1), Record(tp, offset, b"k", None, 0), "k")


def outcomes(partition: int, count: int) -> list[Outcome]:
    return [outcome(partition, offset) for offset in range(count)]


def of_each(taken: list[Outcome]) -> dict[int, int]:
    counts: dict[int, int] = defaultdict(int)
    for one in taken:
        counts[one.origin.tp.partition] += 1
    return dict(counts)


@given(
    st.lists(st.tuples(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 400)), max_size=4), st.integers(1, 1100))),
)
def test_everything_leaves_once_and_each_partition_in_order(
    turns: list[tuple[list[tuple[int, int]], int]],
) -> None:
    leaving = Leaving()
    given_: dict[int, int] = defaultdict(int)
    left: dict[int, list[int]] = defaultdict(list)
    for released, most in [*turns, ([], 1 << 30)]:
        for partition, count in released:
            first = given_[partition]
            leaving.add(outcome(partition, offset) for offset in range(first, first + count))
            given_[partition] += count
        waiting = sum(given_.values()) - sum(map(len, left.values()))
        taken = leaving.take(most)
        assert len(taken) == min(most, waiting)
        for one in taken:
            left[one.origin.tp.partition].append(one.origin.offset)
        assert bool(leaving) == (waiting > len(taken))
    assert left == {partition: list(range(count)) for partition, count in given_.items()}


def test_partitions_share_what_leaves_at_a_time() -> None:
    leaving = Leaving()
    leaving.add([*outcomes(0, 4000), *outcomes(1, 4000), *outcomes(2, 4000), *outcomes(3, 4000)])
    assert of_each(leaving.take(1024)) == {0: 256, 1: 256, 2: 256, 3: 256}


def test_what_one_lacks_the_others_have() -> None:
    leaving = Leaving()
    leaving.add([*outcomes(0, 3000), *outcomes(1, 10)])
    assert of_each(leaving.take(1024)) == {0: 1014, 1: 10}
    assert of_each(leaving.take(1024)) == {0: 1024}


def test_of_many_partitions_a_few_leave_at_a_time_and_none_is_passed_over() -> None:
    leaving = Leaving()
    for partition in range(20):
        leaving.add(outcomes(partition, 1000))
    first, second, third = (of_each(leaving.take(1024)) for _ in range(3))
    assert [len(turn) for turn in (first, second, third)] == [8, 8, 8]  # a batch for each of them, none too small
    assert first.keys() | second.keys() | third.keys() == set(range(20))
    assert not first.keys() & second.keys()


def test_one_event_behind_a_backlog_of_another_partition_leaves_at_once() -> None:
    leaving = Leaving()
    leaving.add(outcomes(0, 50_000))
    leaving.take(1024)
    leaving.add(outcomes(1, 1))
    assert of_each(leaving.take(1024))[1] == 1
