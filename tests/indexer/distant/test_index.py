"""An index in a store says what an index in memory says, however late the store shows what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.sketch import TextForm
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix
from streamer.core.verdicts import Match, Verdict
from streamer.indexer.distant.index import DistantIndex
from streamer.indexer.distant.overlay import Overlay, SourcedPayload, sourced_payload
from streamer.indexer.distant.reader import once
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.stores import StoredUpTo
from tests.support.examples import examples
from tests.support.memory_store import MemoryStore

Arrival = tuple[str, int]  # id, direction in degrees
POLICY = VerdictPolicy(near_duplicate_similarity=float(np.cos(np.radians(15.5))), neighbors=3)
ARRIVALS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 44).map(lambda n: n * 8)), max_size=60)


def distant(store: MemoryStore, window: int = 16, capacity: int = 10_000) -> DistantIndex:
    return DistantIndex(2, capacity, store, once, nullcontext(), Overlay(2, window))


def vectors(arrivals: Sequence[Arrival]) -> Matrix:
    angles = np.radians([degrees for _, degrees in arrivals])
    return np.array([np.cos(angles), np.sin(angles)], np.float32).T.reshape(-1, 2)


def shown(found: Sequence[Sequence[Match]]) -> list[list[tuple[str, float]]]:
    return [[(match.id, match.similarity) for match in matches] for matches in found]


def notes(first: int, count: int) -> list[tuple[int, float, float]]:
    return [(arrival, 0.0, 0.0) for arrival in range(first, first + count)]


def payloads(first: int, count: int, partition: int = 0) -> list[SourcedPayload]:
    return [SourcedPayload(None, None, None, None, partition, offset) for offset in range(first, first + count)]


# Of what the store shows, nearly all has been replaced: it has to be asked for more.
REPLACED: list[list[Arrival] | str] = [[("a", 0), ("c", 0), ("b", 0)], [("c", 0), ("b", 0)], [("a", 0)]]


@example(REPLACED, 1, 1)
@given(
    st.lists(
        st.one_of(
            # Of two that are equally far from a third, by multiples of 4, the cosines may be rounded differently.
            st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 72).map(lambda n: n * 5)), max_size=5),
            st.sampled_from("abcdefghij"),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
    st.integers(0, 2),
)
@settings(max_examples=examples(200))
def test_equals_the_index_in_memory(steps: list[list[Arrival] | str], k: int, lag: int) -> None:
    """Batches, and ids to delete in between. The window is as long as the store's lag, and many events leave it."""
    here, there = VectorIndex(2, 1000), distant(MemoryStore(lag))
    arrived = 0
    for step in steps:
        if isinstance(step, str):
            known = here.delete(step)
            assert there.delete(step) or not known
        else:
            ids, rows, times = [id for id, _ in step], vectors(step), [0] * len(step)
            expected = here.observe(ids, rows, k, [None] * len(step), times, notes(arrived, len(step)))
            found = there.observe(ids, rows, k, payloads(arrived, len(step)), times, notes(arrived, len(step)))
            assert shown(found) == shown(expected)
            assert [[match.note for match in some] for some in found] == [
                [match.note for match in some] for some in expected
            ]
            arrived += len(step)
        there.flush()
        every = vectors([("", degrees) for degrees in (0, 90, 200)])
        assert shown(there.search(every, k)) == shown(here.search(every, k))
    for id in "abcdefghij":
        assert (id in there) == (id in here)
        assert shown([there.search_before(id, k)]) == shown([here.search_before(id, k)])
    there.recount()
    assert len(there) == len(here)


def event(number: int, id: str, degrees: int, partition: int = 0) -> VectorEvent:
    (vector,) = vectors([(id, degrees)])
    return VectorEvent(id=id, vector=vector, space="s", model="m", partition=partition, offset=number, timestamp=number)


def judge_all(judge: Judge, events: Sequence[VectorEvent]) -> list[Verdict]:
    """In batches that the latest events have room for."""
    parts = [judge.judge(events[start : start + 7]) for start in range(0, len(events), 7)]
    return [verdict for part in parts for verdict in part]


def restore_all(judge: Judge, events: Sequence[VectorEvent]) -> None:
    for start in range(0, len(events), 7):
        judge.restore(events[start : start + 7])


def judge_in(store: MemoryStore, window: int = 16) -> Judge:
    index = distant(store, window)
    return Judge(index, POLICY, index.groups, sourced_payload)


@given(ARRIVALS, st.sets(st.integers(0, 60)), st.integers(0, 2))
@settings(max_examples=examples(200))
def test_verdicts_are_those_of_an_index_in_memory(arrivals: list[Arrival], cuts: set[int], lag: int) -> None:
    events = [event(number, id, degrees) for number, (id, degrees) in enumerate(arrivals)]
    there = judge_in(MemoryStore(lag))
    edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    said = []
    for start, stop in pairwise(edges):
        said += judge_all(there, events[start:stop])
        there.index.flush()  # type: ignore[attr-defined]
    assert said == Judge(VectorIndex(2, 1000), POLICY).judge(events)


def neighbours(said: Sequence[Verdict]) -> list[object]:
    """A judge that begins anew has learned nothing of what is usual."""
    return [(verdict.id, verdict.duplicate_of, verdict.nearest) for verdict in said]


@given(ARRIVALS, st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=examples(100))
def test_a_restart_goes_on_with_the_same_groups(arrivals: list[Arrival], stop: int, again: int) -> None:
    """Restored are, once more, records that the store has already; `again` of them."""
    events = [event(number, id, degrees) for number, (id, degrees) in enumerate(arrivals)]
    store = MemoryStore()
    first = judge_in(store)
    judge_all(first, events[:stop])
    first.index.flush()  # type: ignore[attr-defined]
    second = judge_in(store)
    assert isinstance(second.index, DistantIndex)
    second.index.take_up({0})
    second.hear_of(len(events[:stop]))
    restore_all(second, events[max(0, stop - again) : stop])
    expected = Judge(VectorIndex(2, 1000), POLICY).judge(events)[stop:]
    assert neighbours(judge_all(second, events[stop:])) == neighbours(expected)


@given(ARRIVALS, st.integers(0, 60))
@settings(max_examples=examples(100))
def test_a_topic_restored_into_an_empty_store_has_the_same_groups(arrivals: list[Arrival], stop: int) -> None:
    events = [event(number, f"id-{number}", degrees) for number, (_, degrees) in enumerate(arrivals)]
    there = judge_in(MemoryStore())
    restore_all(there, events[:stop])
    there.index.flush()  # type: ignore[attr-defined]
    expected = Judge(VectorIndex(2, 1000), POLICY).judge(events)[stop:]
    assert neighbours(judge_all(there, events[stop:])) == neighbours(expected)


def test_what_is_too_much_leaves_oldest_first_and_in_steps() -> None:
    store = MemoryStore()
    index = distant(store, capacity=128)
    for start in range(0, 600, 10):
        step = [(f"id-{number % 500}", number) for number in range(start, start + 10)]
        index.observe([id for id, _ in step], vectors(step), 1, payloads(start, 10), [0] * 10, notes(start, 10))
        index.arrived = start + 10
        index.flush()
        assert len(store.events) <= 128 + 10
        if start >= 200:
            assert len(store.events) >= 126
    newest = {f"id-{number % 500}" for number in range(600 - 120, 600)}
    assert newest <= store.events.keys()
    assert "id-101" not in index


def test_what_has_expired_is_gone_from_both() -> None:
    store = MemoryStore()
    index = distant(store, window=4)
    for number in range(10):
        index.observe([f"id-{number}"], vectors([("", number)]), 1, payloads(number, 1), [number], notes(number, 1))
        index.flush()
    index.expire(8)
    assert sorted(store.events) == ["id-8", "id-9"]
    assert [match.id for match in index.search(vectors([("", 0)]), 5)[0]] == ["id-8", "id-9"]


def test_numbers_of_others_are_never_later_than_ones_own() -> None:
    """Two indexers share a store. What one meets of the other's counts as having come before."""
    store = MemoryStore()
    busy, idle = judge_in(store), judge_in(store)
    judge_all(busy, [event(number, f"busy-{number}", number) for number in range(40)])
    busy.index.flush()  # type: ignore[attr-defined]
    said = idle.judge([event(0, "idle-0", 3, partition=1), event(1, "idle-1", 100, partition=1)])
    assert [verdict.duplicate_of for verdict in said] == ["busy-0", None]
    assert isinstance(idle.index, DistantIndex)
    assert idle.index.arrived == 40


def test_a_partition_that_was_given_away_is_not_known_better_than_by_the_store() -> None:
    store = MemoryStore()
    old, new = distant(store), distant(store)
    old.observe(["x"], vectors([("", 0)]), 1, payloads(0, 1), [0], notes(0, 1))
    old.flush()
    new.observe(["x"], vectors([("", 90)]), 1, payloads(1, 1), [0], notes(1, 1))
    new.flush()
    assert shown(old.search(vectors([("", 90)]), 1)) == [[("x", 0.0)]]
    old.take_up(set())
    assert shown(old.search(vectors([("", 90)]), 1)) == [[("x", 1.0)]]


def test_takes_up_what_was_written_last_of_its_partitions() -> None:
    store = MemoryStore()
    writer = distant(store, window=64)
    for number in range(30):
        writer.observe(
            [f"id-{number}"], vectors([("", number)]), 1, payloads(number, 1, number % 2), [0], notes(number, 1)
        )
    writer.flush()
    writer.save_positions({0: 28, 1: 29}, 30)
    reader = distant(store, window=16)
    assert reader.take_up({1}) == {1: StoredUpTo(29, 30)}
    assert reader.arrived == 30
    assert list(reader._overlay.events) == ["id-23", "id-25", "id-27", "id-29"]
    assert [id for id, _ in reader.looked_back_on()] == [f"id-{number}" for number in range(22, 30)]
    assert not reader._overlay.unwritten


def test_forms_sketches_texts_and_metadata_come_back() -> None:
    store = MemoryStore()
    index = distant(store, window=2)
    judge = Judge(index, POLICY, index.groups, sourced_payload)
    form = TextForm(*range(13))
    told = replace(event(0, "told", 0), text="a text", metadata={"a": 1}, sketch=b"\1" * 120, form=form)
    judge.judge([told, event(1, "b", 50)])
    index.flush()
    judge.judge([event(2, "c", 100), event(3, "d", 150)])
    index.flush()
    assert "told" not in index._overlay.events
    assert dict(index.looked_back_on())["d"] is None
    assert store.events["told"].form == form
    payload = index.payload("told")
    assert payload is not None
    assert (payload.text, payload.metadata, payload.sketch) == ("a text", {"a": 1}, b"\1" * 120)
    (match,) = index.search(
        vectors([("", 0)]), 1, accept=lambda payload: payload is not None and payload.satisfies({"a": 1})
    )[0]
    assert (match.id, match.payload.text) == ("told", "a text")
    assert index.search(vectors([("", 0)]), 1, exclude=["told"])[0][0].id == "b"
    ids, rows = index.coordinates(["told", "nobody", "d"])
    assert (ids, rows.shape) == (["told", "d"], (2, 2))


@pytest.mark.parametrize(
    "call", [lambda index: index.reader.get("x"), lambda index: index.reader.search(vectors([("", 0)]), 1)]
)
def test_readers_do_not_wait_for_a_store_that_is_away(call: Callable[[DistantIndex], object]) -> None:
    store = MemoryStore()
    index = distant(store)
    store.is_away = True
    with pytest.raises(Exception, match="the store is away"):
        call(index)
