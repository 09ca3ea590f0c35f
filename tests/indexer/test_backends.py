"""An index against a dict that does the same thing slowly, wherever its vectors are kept.

In memory and in the store of our tests under many streams, in Milvus under some: there each call takes a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import cos, radians
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.vectors import Matrix, Space
from streamer.core.verdicts import Match
from streamer.indexer.distant.index import DistantIndex
from streamer.indexer.distant.overlay import Overlay, SourcedPayload
from streamer.indexer.distant.reader import once
from streamer.indexer.event_index import EventIndex
from streamer.indexer.index.vector_index import VectorIndex
from streamer.stores import StoredUpTo, VectorStore
from tests.support.examples import examples
from tests.support.indexing import size_of
from tests.support.memory_store import MemoryStore

IDS = "abcdefghijkl"
RESOLUTION = 2e-6  # Milvus computes in single precision, and similarities have six decimals

Step = tuple[str, Any]
BATCHES = st.lists(st.tuples(st.sampled_from(IDS), st.integers(0, 71).map(lambda n: n * 5)), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), BATCHES),
        st.tuples(st.just("arrive"), BATCHES),
        st.tuples(st.just("delete"), st.sampled_from(IDS)),
        st.tuples(st.just("expire"), st.integers(1, 12)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


def vectors(degrees: Sequence[int]) -> Matrix:
    angles = np.radians(degrees)
    return np.array([np.cos(angles), np.sin(angles)], np.float32).T.reshape(-1, 2)


def agrees(found: Sequence[Match], model: Mapping[str, int], degrees: int, k: int) -> None:
    """The best of the model, in order; of those that are equally similar it may be any."""
    similarities = {id: cos(radians(degrees - its)) for id, its in model.items()}
    assert len({match.id for match in found}) == len(found)
    assert [match.similarity for match in found] == pytest.approx(
        sorted(similarities.values(), reverse=True)[:k], abs=RESOLUTION
    )
    for match in found:
        assert match.similarity == pytest.approx(similarities[match.id], abs=RESOLUTION)


def follow(steps: Sequence[Step], k: int, begin: Callable[[EventIndex | None, int], EventIndex]) -> None:
    """Take the steps, and compare with the dict after each. `begin`: an index that goes on with what another one has
    left, after so many arrivals."""
    index = begin(None, 0)
    model: dict[str, int] = {}  # degrees by id, in order of arrival
    times: dict[str, int] = {}
    arrived = 0
    for what, step in steps:
        if what == "arrive":
            ids, rows = [id for id, _ in step], vectors([degrees for _, degrees in step])
            numbers = range(arrived, arrived + len(step))
            payloads = [SourcedPayload(None, f"text {number}", None, None, 0, number) for number in numbers]
            notes = [(number, 0.0, 0.0) for number in numbers]
            found = index.observe(ids, rows, k, payloads, list(numbers), notes)
            for (id, degrees), matches, number in zip(step, found, numbers, strict=True):
                model.pop(id, None)
                agrees(matches, model, degrees, k)
                model[id], times[id] = degrees, number
            arrived += len(step)
        elif what == "delete":
            known = model.pop(step, None) is not None
            assert index.delete(step) or not known
        elif what == "expire":
            index.expire(arrived - step)
            model = {id: degrees for id, degrees in model.items() if times[id] >= arrived - step}
        else:
            index = begin(index, arrived)
        assert size_of(index) == len(model)
        for degrees in (0, 93, 181):
            agrees(index.search(vectors([degrees]), k)[0], model, degrees, k)
    assert {id for id in IDS if id in index} == model.keys()
    for place, (id, degrees) in enumerate(model.items()):
        assert index.get(id) == pytest.approx(vectors([degrees])[0], abs=1e-6)
        assert index.payload(id).text == f"text {times[id]}"
        agrees(index.search_before(id, k), dict(list(model.items())[:place]), degrees, k)


def in_memory(before: EventIndex | None, arrived: int) -> EventIndex:
    """Its restart is a matter of snapshots, which have tests of their own."""
    return before or VectorIndex(2, 1000)


def in_store(store: VectorStore) -> Callable[[EventIndex | None, int], EventIndex]:
    """What was held of it is forgotten at a restart, and taken up again."""

    def begin(before: EventIndex | None, arrived: int) -> EventIndex:
        if isinstance(before, DistantIndex):
            before.flush()
            before.save_positions({0: arrived}, arrived)
        index = DistantIndex(2, 1000, store, once, nullcontext(), Overlay(2, 8))
        index.take_up({0})
        return index

    return begin


@given(STEPS, st.integers(1, 4))
@settings(max_examples=examples(100))
def test_in_memory(steps: list[Step], k: int) -> None:
    follow(steps, k, in_memory)


@given(STEPS, st.integers(1, 4))
@settings(max_examples=examples(100))
def test_in_a_store(steps: list[Step], k: int) -> None:
    follow(steps, k, in_store(MemoryStore()))


@pytest.fixture(scope="module")
def milvus(new_milvus: Callable[[Space], VectorStore]) -> VectorStore:
    return new_milvus(Space(provider="p", model="m", dimensions=2))


@pytest.mark.slow
@given(STEPS, st.integers(1, 4))
@settings(max_examples=examples(30))
def test_in_milvus(milvus: VectorStore, steps: list[Step], k: int) -> None:
    milvus.drop(before_arrival=1 << 40)
    milvus.save_positions({0: StoredUpTo(0, 0)})
    follow(steps, k, in_store(milvus))
