from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import TopicPartition
from streamer.migration.readiness import Index, Position, Progress, progress, reasons_to_wait

TP = TopicPartition("texts", 0)
READY = Index(ready=True, state=None, lag=0, problem=None)


@st.composite
def positions(draw: st.DrawFn) -> Position:
    begin = draw(st.integers(0, 100))
    end = begin + draw(st.integers(0, 100))
    return Position(begin, draw(st.none() | st.integers(0, 250)), end)


@given(positions())
def test_what_is_done_and_what_is_left_are_all(position: Position) -> None:
    assert position.done + position.lag == position.end - position.begin
    assert position.done >= 0
    assert position.lag >= 0


@given(st.lists(positions(), max_size=5))
def test_a_sum_is_that_of_its_parts(parts: list[Position]) -> None:
    reached = Progress({TopicPartition("texts", n): part for n, part in enumerate(parts)})
    assert reached.done + reached.lag == reached.records
    assert 0 <= reached.share <= 1
    assert (reached.share == 1) == (reached.lag == 0)


def test_rate_and_eta_are_of_two_looks() -> None:
    before, after = {TP: Position(10, 20, 110)}, {TP: Position(10, 40, 130)}
    reached = progress(before, after, 2.0)
    assert (reached.rate, reached.lag, reached.eta) == (10.0, 90, 9.0)
    assert progress(after, after, 2.0).eta is None, "nothing moves"
    assert progress({}, after, 2.0).rate is None
    assert progress(after, {TP: Position(10, 130, 130)}, 2.0).eta == 0.0


def index(ready: bool = True, state: str | None = None, lag: int = 0, problem: str | None = None) -> Index:
    return Index(ready=ready, state=state, lag=lag, problem=problem)


@pytest.mark.parametrize(
    ("lag", "said", "expected"),
    [
        (0, READY, []),
        (0, None, []),
        (100, READY, []),
        (101, READY, ["the new workers are 101 records behind, more than 100"]),
        (0, "no indexer answers", ["no indexer answers"]),
        (0, index(lag=101), ["the new index is 101 vectors behind, more than 100"]),
        (0, index(ready=False, state="restoring"), ["the new index is not ready: restoring"]),
        (0, index(ready=False, problem="no key"), ["the indexer does not hold the new index: no key"]),
    ],
)
def test_readers_are_moved_when_the_new_side_is_there(lag: int, said: Index | str | None, expected: list[str]) -> None:
    assert list(reasons_to_wait(Progress({TP: Position(0, 500 - lag, 500)}), said, 100)) == expected


def test_without_an_input_nothing_is_ready() -> None:
    assert reasons_to_wait(Progress({}), READY, 100) == ["the input has no partitions"]
