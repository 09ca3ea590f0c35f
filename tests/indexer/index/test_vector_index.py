"""The index against a dict that does the same thing slowly."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.bench.vectors import like_texts
from streamer.core.vectors import Matrix, unit_rows
from streamer.core.verdicts import Match
from streamer.indexer.index import basis, blocks, nearest, rotation, top_k, vector_index
from streamer.indexer.index.blocks import VectorBlocks
from streamer.indexer.index.vector_index import VectorIndex
from tests.support.examples import examples

Arrival = tuple[str, tuple[int, ...] | None]  # None deletes
IDS = st.sampled_from("abcdefgh")


# Multiples of 1/8: every product and sum is exact in float32, so ties are true ties and results compare equal.
SCALE = 1 / 8


VECTORS = st.tuples(*[st.integers(-3, 3)] * 3)
STREAMS = st.lists(st.tuples(IDS, st.one_of(st.none(), VECTORS, VECTORS, VECTORS)), max_size=60)


class Model:
    """Insertion-ordered dict, one arrival at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.vectors: dict[str, tuple[int, ...]] = {}

    def nearest(self, query: Sequence[int], k: int, among: Sequence[str]) -> list[Match]:
        scored = [Match(id, float(np.dot(query, self.vectors[id])) * SCALE**2) for id in among]
        return sorted(scored, key=lambda match: -match.similarity)[:k]  # stable: ties stay in order of arrival

    def arrive(self, id: str, vector: tuple[int, ...], k: int) -> list[Match]:
        self.vectors.pop(id, None)
        found = self.nearest(vector, k, list(self.vectors))
        if len(self.vectors) == self.capacity:
            del self.vectors[next(iter(self.vectors))]
        self.vectors[id] = vector
        return found


@contextmanager
def other_coordinates_from(count: int) -> Iterator[None]:
    """So many vectors on, whether that pays or not."""
    with patch.object(rotation, "_enough", lambda _: count), patch.object(basis, "_WORTHWHILE", np.inf):
        yield


def rows(vectors: Sequence[tuple[int, ...]]) -> Matrix:
    return np.array(vectors, np.float32).reshape(len(vectors), 3) * np.float32(SCALE)


def batches(stream: Sequence[Arrival], cuts: set[int]) -> Iterator[list[Arrival]]:
    """The stream cut at `cuts` and around every deletion."""
    batch: list[Arrival] = []
    for i, arrival in enumerate(stream):
        if batch and (i in cuts or arrival[1] is None or batch[-1][1] is None):
            yield batch
            batch = []
        batch.append(arrival)
    if batch:
        yield batch


@pytest.fixture(params=["as shipped", "tiny", "tiny, in other coordinates"])
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny sizes make a ring of a few rows grow, wrap, close holes and fall into several products."""
    with ExitStack() as patches:
        if request.param != "as shipped":
            tiny = patch.multiple(vector_index, _QUERIES=3, _FEWEST_SLOTS=3, _FEWEST_BYTES=1)
            patches.enter_context(tiny)
            patches.enter_context(patch.object(nearest, "_SCORES", 6))
            patches.enter_context(patch.object(blocks, "WIDTH", 4))
        if request.param == "tiny, in other coordinates":
            patches.enter_context(other_coordinates_from(4))
        yield


@pytest.mark.usefixtures("sizes")
@given(STREAMS, st.sets(st.integers(0, 60)), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=examples(100))
def test_equals_the_model_however_the_stream_is_cut(
    stream: list[Arrival], cuts: set[int], capacity: int, k: int
) -> None:
    index, model = VectorIndex(3, capacity), Model(capacity)
    for batch in batches(stream, cuts):
        if batch[0][1] is None:
            id = batch[0][0]
            assert index.delete(id) == (model.vectors.pop(id, None) is not None)
        else:
            arrivals = [(id, vector) for id, vector in batch if vector is not None]
            expected = [model.arrive(id, vector, k) for id, vector in arrivals]
            assert index.observe([id for id, _ in arrivals], rows([v for _, v in arrivals]), k) == expected
        assert len(index) == len(model.vectors)

    everything = list(model.vectors)
    for query in [(1, 0, 0), (-2, 3, 1)]:
        assert index.search(rows([query]), k) == [model.nearest(query, k, everything)]
        assert index.search(rows([query]), k, exclude=["a", "b"]) == [
            model.nearest(query, k, [id for id in everything if id not in ("a", "b")])
        ]
    for i, (id, vector) in enumerate(model.vectors.items()):
        in_their_own = index.read_view().rotation.basis is None
        found = index.get(id)
        assert found is not None
        np.testing.assert_allclose(found, rows([vector])[0], rtol=0, atol=0 if in_their_own else 1e-7)
        assert index.search_before(id, k) == model.nearest(vector, k, everything[:i])
    assert [id for id in "abcdefgh" if id in index] == sorted(everything)


@pytest.mark.usefixtures("sizes")
@given(STREAMS, st.sets(st.integers(0, 60)), st.integers(1, 9), st.lists(st.integers(0, 9), min_size=60, max_size=60))
@settings(max_examples=examples(70))
def test_notes_and_times_stay_with_their_vectors(
    stream: list[Arrival], cuts: set[int], capacity: int, times: list[int]
) -> None:
    index, model = VectorIndex(3, capacity), Model(capacity)
    known: dict[str, int] = {}  # id -> number of its latest arrival, which is its payload too
    arrived = 0
    for batch in batches(stream, cuts):
        if batch[0][1] is None:
            index.delete(batch[0][0])
            model.vectors.pop(batch[0][0], None)
            before = times[arrived % 60] // 2  # as good a moment as any for the old to expire
            late = [id for id in model.vectors if times[known[id]] < before]
            assert index.expire(before) == len(late)
            for id in late:
                del model.vectors[id]
            arrived += 1
            continue
        ids, numbers = [id for id, _ in batch], list(range(arrived, arrived + len(batch)))
        for (id, vector), number in zip(batch, numbers, strict=True):
            assert vector is not None
            model.arrive(id, vector, 1)
            known[id] = number
        vectors = rows([vector for _, vector in batch if vector is not None])
        index.observe(ids, vectors, 1, numbers, [times[number] for number in numbers])
        arrived += len(batch)
    assert {id: index.payload(id) for id in model.vectors} == {id: known[id] for id in model.vectors}
    assert len(index) == len(model.vectors)
    (found,) = index.search(rows([(1, 0, 2)]), 9, accept=lambda number: number % 2 == 0)
    assert {(match.id, match.payload) for match in found} == {
        (id, known[id]) for id in model.vectors if known[id] % 2 == 0
    }


def test_as_many_of_the_nearest_as_asked_for_carry_their_payloads() -> None:
    index = VectorIndex(3, 9)
    index.insert(["a", "b", "c"], rows([(1, 0, 0), (1, 1, 0), (0, 1, 0)]), ["A", "B", "C"])
    (found,) = index.observe(["d"], rows([(1, 0, 0)]), 3, ["D"], described=2)
    assert [(match.id, match.payload) for match in found] == [("a", "A"), ("b", "B"), ("c", None)]


@pytest.mark.usefixtures("sizes")
@given(STREAMS, st.sets(st.integers(0, 60)), st.integers(1, 9))
@settings(max_examples=examples(40))
def test_insert_leaves_the_same_index_as_observe(stream: list[Arrival], cuts: set[int], capacity: int) -> None:
    arrivals = [(id, vector) for id, vector in stream if vector is not None]
    observed, inserted = VectorIndex(3, capacity), VectorIndex(3, capacity)
    for batch in batches(arrivals, cuts):
        vectors = rows([vector for _, vector in batch if vector is not None])
        observed.observe([id for id, _ in batch], vectors, 1)
        inserted.insert([id for id, _ in batch], vectors)
    query = rows([(1, 2, 3)])
    assert inserted.search(query, 9) == observed.search(query, 9)


def units(count: int, dimensions: int, seed: int) -> Matrix:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dimensions)))


def test_finds_the_same_as_a_full_product_on_real_vectors() -> None:
    stored, queries = units(5000, 96, 1), units(70, 96, 2)
    index = VectorIndex(96, 4000)
    index.insert([str(i) for i in range(5000)], stored)
    scores = queries.astype(float) @ stored[1000:].astype(float).T
    for k in (1, 3, 40):
        expected = np.argsort(-scores, axis=1)[:, :k]
        found = index.search(queries, k)
        assert [[int(match.id) - 1000 for match in matches] for matches in found] == expected.tolist()
        assert np.allclose([match.similarity for match in found[0]], scores[0, expected[0]], atol=1e-6)


def test_the_earliest_of_many_copies_is_found_although_their_products_differ_in_the_last_bits() -> None:
    others, copied = units(3000, 384, 3), units(1, 384, 4)
    index = VectorIndex(384, 10_000)
    index.insert([f"other-{i}" for i in range(3000)], others)
    index.insert([f"copy-{i}" for i in range(5000)], np.tile(copied, (5000, 1)))
    near = unit_rows(copied + 0.01 * units(64, 384, 5))
    for k in (1, 4):
        for matches in index.search(near, k):
            assert [match.id for match in matches] == [f"copy-{i}" for i in range(k)]


@pytest.mark.parametrize("dimensions", [384, pytest.param(1024, marks=pytest.mark.slow)])
def test_neighbours_do_not_depend_on_how_many_queries_share_a_product(dimensions: int) -> None:
    stored, queries = units(300, dimensions, 6), units(40, dimensions, 7)
    index = VectorIndex(dimensions, 300)
    index.insert([str(i) for i in range(300)], stored)
    together = index.search(queries, 5)
    for size in (1, 3, 8):
        parts = [index.search(queries[start : start + size], 5) for start in range(0, 40, size)]
        assert together == [matches for part in parts for matches in part]


@pytest.mark.parametrize(
    "dimensions", [96, 384, *(pytest.param(many, marks=pytest.mark.slow) for many in (768, 1024, 3072))]
)
def test_a_pair_scores_the_same_within_resolution_wherever_and_with_whomever_it_is_multiplied(dimensions: int) -> None:
    queries = units(64, dimensions, 8)
    copied = unit_rows(queries[:1] + 0.02 * units(1, dimensions, 9))
    copies = VectorBlocks(2500, dimensions)
    copies.put(np.arange(2500), np.tile(copied, (2500, 1)))
    scores = [
        copies.products(queries[:count], start, stop)[0]
        for count in (1, 2, 3, 4, 6, 7, 8, 63, 64)
        for start, stop in ((0, 2500), (1, 2047), (7, 20), (2047, 2050), (2100, 2413))
    ]
    assert np.ptp(np.concatenate(scores)) < top_k.RESOLUTION


@pytest.mark.slow
def test_coordinates_change_at_the_same_vector_however_a_stream_is_cut() -> None:
    stream, found = like_texts(np.random.default_rng(11), 1200, 64), list[list[list[Match]]]()
    stream[200:240] = stream[:40]
    for size in (1, 7, 64, 400):
        with other_coordinates_from(400):
            index = VectorIndex(64, 800)
            matches: list[list[Match]] = []
            for start in range(0, 1200, size):
                ids = [str(i % 1000) for i in range(start, min(start + size, 1200))]
                matches += index.observe(ids, stream[start : start + size], 3)
                view = index.read_view()
                assert (view.rotation.basis is not None) == (start + size > 400), start
                view.release()
        found.append(matches)
    assert all(other == found[0] for other in found)
    plain = VectorIndex(64, 800)
    ours = [match for matches in found[0] for match in matches]
    theirs = [match for matches in plain.observe([str(i % 1000) for i in range(1200)], stream, 3) for match in matches]
    assert [match.id for match in ours] == [match.id for match in theirs]
    similarities, expected = ([match.similarity for match in side] for side in (ours, theirs))
    np.testing.assert_allclose(similarities, expected, rtol=0, atol=1.1e-6)
    assert plain.read_view().rotation.basis is None


def test_a_stream_that_turns_elsewhere_is_searched_exactly_all_the_same() -> None:
    stream = np.concatenate((like_texts(np.random.default_rng(12), 1500, 64), units(1500, 64, 13)))
    with other_coordinates_from(1000):
        index = VectorIndex(64, 3000)
        index.insert([str(i) for i in range(3000)], stream)
    assert index.read_view().rotation.basis is not None
    queries = units(40, 64, 14)
    scores = queries.astype(float) @ stream.astype(float).T
    expected = np.argsort(-scores, axis=1)[:, :3]
    assert [[int(match.id) for match in matches] for matches in index.search(queries, 3)] == expected.tolist()


def test_a_snapshot_begun_in_old_coordinates_is_finished_in_them() -> None:
    stream = like_texts(np.random.default_rng(15), 1200, 64)
    with other_coordinates_from(1000):
        index = VectorIndex(64, 1200)
        index.insert([str(i) for i in range(900)], stream[:900])
        view = index.read_view()
        index.insert([str(i) for i in range(900, 1200)], stream[900:])
        assert index.read_view().rotation.basis is not None
        assert view.rotation.basis is None
        assert (view.next_vectors(900) == stream[:900]).all()


def test_a_snapshot_stays_whole_where_no_better_coordinates_are_found() -> None:
    stream = units(1600, 64, 16)
    with patch.object(rotation, "_enough", lambda _: 1000):
        index = VectorIndex(64, 1000)
        index.insert([str(i) for i in range(900)], stream[:900])
        view = index.read_view()
        index.insert([str(i) for i in range(900, 1600)], stream[900:])
        assert index.read_view().rotation.final
        assert index.read_view().rotation.basis is None
        assert (view.next_vectors(900) == stream[:900]).all()


def test_searches_in_another_thread_meet_whole_rows_only() -> None:
    vectors = units(64, 16, 10)
    changing, stop = threading.Lock(), threading.Event()
    tiny = patch.multiple(vector_index, _QUERIES=8, _FEWEST_SLOTS=8, _FEWEST_BYTES=1)
    with tiny, other_coordinates_from(20):
        index = VectorIndex(16, 24, changing)

        def change() -> None:
            rng = np.random.default_rng(0)
            while not stop.is_set():
                numbers = rng.choice(64, 8, replace=False)
                index.observe([str(number) for number in numbers], vectors[numbers], 3, payloads=numbers.tolist())
                index.delete(str(rng.integers(64)))

        with ThreadPoolExecutor(1) as pool:
            changes = pool.submit(change)
            try:
                for number in [*range(64)] * examples(20):
                    with changing:
                        (found,) = index.search(vectors[number][None], 5)
                        assert [match.id for match in found if match.id not in index] == []
                    for match in found:
                        exact = vectors[match.payload].astype(float) @ vectors[number].astype(float)
                        assert match.id == str(match.payload)
                        assert match.similarity == pytest.approx(exact, abs=1e-5)
            finally:
                stop.set()
        changes.result()


def test_memory_stays_within_what_is_promised() -> None:
    index = VectorIndex(8, 5000)
    largest = 0
    for start in range(0, 12_000, 50):
        index.insert([str(i % 7000) for i in range(start, start + 50)], units(50, 8, start))
        largest = max(largest, index.nbytes)
    assert largest <= 4 * 8 * (5000 + 5000 // 64)
    assert len(index) == 5000


@pytest.mark.parametrize(
    "how",
    [
        "expired",
        *(
            pytest.param(how, marks=pytest.mark.slow)
            for how in ("deleted one by one", "deleted and sent again", "deleted by halves", "replaced, then deleted")
        ),
    ],
)
def test_row_r6_what_is_deleted_lets_go_of_all_but_its_place_which_the_next_take(how: str) -> None:
    """Field case R6: memory reserved for vectors is not given back, nor does it grow."""

    def fill(index: VectorIndex, name: str) -> None:
        for start in range(0, count, 100):
            ids = [f"{name}-{i}-".ljust(300, "x") for i in range(start, start + 100)]
            index.insert(ids, units(100, 8, start), [f"{id} text".ljust(700, ".") for id in ids], [1] * 100)

    def empty(index: VectorIndex) -> None:
        if how == "expired":
            assert index.expire(2) == count
        elif how == "deleted by halves":  # from the end, while the other half stays
            for half in (1, 0):
                ids = sorted(match.id for match in index.search(units(1, 8, 0), count)[0])
                assert all(index.delete(id) for id in ids[half * count // 2 :])
        else:
            assert all(index.delete(match.id) for match in index.search(units(1, 8, 0), count)[0])
        assert len(index) == 0

    count = 1000
    another = VectorIndex(8, count)  # makes what a process needs once
    fill(another, "another")
    empty(another)
    index = VectorIndex(8, count)
    tracemalloc.start()
    try:
        for turn in range(3):
            fill(index, "same" if how == "deleted and sent again" else f"turn {turn}")
            if how == "replaced, then deleted":
                fill(index, f"turn {turn}")
            reserved, held = index.nbytes, tracemalloc.get_traced_memory()[0]
            empty(index)
            assert tracemalloc.get_traced_memory()[0] < held - count * 1000
            assert index.nbytes == reserved <= 4 * 8 * (count + count // 64 + 256)
    finally:
        tracemalloc.stop()


def test_wrong_shapes_and_sizes_are_refused() -> None:
    index = VectorIndex(3, 5)
    with pytest.raises(ValueError, match=r"expected 2 vectors of 3 dimensions, got shape \(1, 3\)"):
        index.observe(["a", "b"], rows([(1, 2, 3)]), 1)
    with pytest.raises(ValueError, match="k must be positive"):
        index.search(rows([(1, 2, 3)]), 0)
    with pytest.raises(ValueError, match="must be positive"):
        VectorIndex(3, 0)


def test_a_debugger_reads_how_full_it_is() -> None:
    index = VectorIndex(3, 5)
    index.insert(["a", "b"], np.eye(3, dtype=np.float32)[:2])
    assert repr(index) == f"<VectorIndex: 2 of at most 5 vectors of 3 dimensions, {index.nbytes} bytes>"


def test_coordinates_are_those_of_the_index_and_of_what_it_remembers() -> None:
    random = np.random.default_rng(5)
    vectors = unit_rows(random.standard_normal((300, 100)) * np.geomspace(3, 0.05, 100))
    ids = [f"id-{i}" for i in range(300)]
    with other_coordinates_from(200):
        index = VectorIndex(100, 20_000)
        index.insert(ids[:200], vectors[:200])
        known, rows = index.coordinates(["id-7", "nobody", "id-3"])
        assert known == ["id-7", "id-3"]
        np.testing.assert_array_equal(rows, vectors[[7, 3]])
        index.insert(ids[200:], vectors[200:])
        known, rows = index.coordinates(ids)
    assert known == ids
    assert rows.shape == (300, 64), "the leading components of its principal axes"
    np.testing.assert_allclose(rows @ rows.T, vectors @ vectors.T, atol=0.05)
