from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Event, Origin, Record, TopicPartition
from streamer.worker.batching import Batcher, BatchPolicy


def event(number: int, size: int) -> Event:
    tp = TopicPartition("texts", 0)
    return Event(Origin(tp, number, 1), Record(tp, number, None, b"x" * size, 0), str(number), "x" * size)


policies = st.builds(
    BatchPolicy,
    max_events=st.integers(1, 6),
    max_bytes=st.integers(1, 40),
    linger=st.floats(0, 2, allow_nan=False),
)


@given(policies, st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=60), st.data())
def test_batches_are_the_input_in_order_and_keep_the_policy(
    policy: BatchPolicy, arrivals: list[tuple[int, float]], data: st.DataObject
) -> None:
    batcher = Batcher(policy)
    now = 0.0
    sent, received = [], []
    for number, (size, gap) in enumerate(arrivals):
        now += gap
        batcher.add(event(number, size), now)
        sent.append(number)
        if batcher.is_due(now) or data.draw(st.booleans()):
            batch = batcher.take()
            assert 1 <= len(batch) <= policy.max_events
            total = sum(len(e.text) for e in batch)
            assert total <= policy.max_bytes or len(batch) == 1
            received += [e.origin.offset for e in batch]
    while batch := batcher.take():
        received += [e.origin.offset for e in batch]
    assert received == sent
    assert len(batcher) == 0
    assert batcher.deadline == math.inf


@given(policies, st.integers(1, 100))
def test_full_means_that_one_more_event_would_not_join_the_next_batch(policy: BatchPolicy, count: int) -> None:
    batcher = Batcher(policy)
    for number in range(count):
        batcher.add(event(number, 7), 0.0)
    if batcher.is_full:
        before = len(batcher)
        batcher.add(event(count, 7), 0.0)
        taken = len(batcher.take())
        assert taken <= before or before == 0


def test_the_window_opens_with_the_first_event() -> None:
    batcher = Batcher(BatchPolicy(max_events=10, linger=0.5))
    batcher.add(event(0, 1), 100.0)
    batcher.add(event(1, 1), 100.4)
    assert batcher.deadline == 100.5
    assert not batcher.is_due(100.49)
    assert batcher.is_due(100.5)


def test_what_stays_behind_keeps_its_own_window() -> None:
    batcher = Batcher(BatchPolicy(max_events=2, linger=0.5))
    for number, now in enumerate((1.0, 1.1, 1.2)):
        batcher.add(event(number, 1), now)
    assert [e.id for e in batcher.take()] == ["0", "1"]
    assert batcher.deadline == pytest.approx(1.7)


def test_a_policy_that_could_never_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="max_events"):
        BatchPolicy(max_events=0)


def test_a_debugger_reads_what_waits() -> None:
    batcher = Batcher(BatchPolicy(linger=0.5))
    assert repr(batcher) == "<Batcher: 0 events of 0 bytes, window ends at inf>"
    batcher.add(event(0, 30), 100.0)
    assert repr(batcher) == "<Batcher: 1 events of 30 bytes, window ends at 100.500>"
