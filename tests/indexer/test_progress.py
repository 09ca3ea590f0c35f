"""How far an indexer has come: what is new to it, and what is left to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Record, TopicPartition
from streamer.indexer.progress import Progress, remaining
from tests.support.indexing import P0, P1

OFFSETS = st.dictionaries(st.sampled_from([P0, P1, TopicPartition("vectors", 2)]), st.integers(0, 20))


def test_what_an_earlier_run_has_judged_is_not_new() -> None:
    progress = Progress()
    assert progress.begin({P0: 0, P1: 0}, {P0: 10, P1: 10}, {P0: 4}) == []
    records = [Record(P0, offset, b"k", b"v", 0) for offset in (3, 4, 5)]
    assert [progress.is_new(record) for record in records] == [False, True, True]
    assert progress.divided(records) == (records[:1], records[1:])
    assert progress.is_new(Record(P1, 0, b"k", b"v", 0)), "nothing of it is committed"
    assert progress.committed == {P0: 4}
    assert [progress.goes_beyond_judged({P0: upto}) for upto in (3, 4, 5)] == [False, False, True]
    assert progress.goes_beyond_judged({P0: 4, P1: 1})


def test_a_commit_beyond_the_end_belongs_to_a_topic_that_is_gone() -> None:
    progress = Progress()
    assert progress.begin({P0: 0, P1: 0}, {P0: 10, P1: 3}, {P0: 10, P1: 4}) == [P1]
    assert progress.judged == progress.committed == {P0: 10}
    assert progress.is_new(Record(P1, 0, b"k", b"v", 0))


def test_a_commit_that_is_made_later_does_not_change_what_was_judged_before() -> None:
    progress = Progress()
    progress.begin({P0: 0}, {P0: 10}, {P0: 4})
    progress.committed[P0] = 8
    assert progress.is_new(Record(P0, 5, b"k", b"v", 0)), "it was read by this run and may be read again"
    assert progress.bounds().committed == {P0: 8}


@pytest.mark.parametrize(("starts", "expected"), [({P0: 0, P1: 0}, 17), ({P0: 8, P1: 5}, 4), ({P0: 10, P1: 9}, 0)])
def test_records_to_restore_are_those_between_the_start_and_the_end(
    starts: dict[TopicPartition, int], expected: int
) -> None:
    progress = Progress()
    progress.begin({}, {P0: 10, P1: 7}, {})
    progress.read_from(starts)
    assert progress.restore_records == expected
    assert progress.remembered == starts
    progress.remembered[P0] = 10  # reading goes on
    assert progress.restore_records == expected


@given(OFFSETS, OFFSETS)
def test_what_remains_is_counted_for_each_partition_and_never_below_zero(
    until: dict[TopicPartition, int], positions: dict[TopicPartition, int]
) -> None:
    assert remaining(until, until) == 0
    assert remaining(until, positions) == sum(len(range(positions.get(tp, 0), end)) for tp, end in until.items())
