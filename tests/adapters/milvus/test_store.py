"""The store on real Milvus, as a file, does what the store of our other tests does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from streamer.core.sketch import TextForm
from streamer.core.vectors import Space, unit_rows
from streamer.errors import ConfigurationError, Unreachable
from streamer.stores import Found, StoredEvent, StoredUpTo, VectorStore
from tests.support.memory_store import MemoryStore

pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")

from streamer.adapters.milvus.store import MilvusStore

pytestmark = pytest.mark.slow

SPACE = Space(provider="p", model="m", dimensions=3)
OWNER = {"topic": "vectors", "cluster": "c"}


def stored(id: str, arrival: int, vector: Sequence[float], partition: int = 0, **fields: object) -> StoredEvent:
    (unit,) = unit_rows([vector])
    event = StoredEvent(
        id=id,
        partition=partition,
        offset=arrival,
        time=arrival * 10,
        arrival=arrival,
        density=nan,
        surprise=0.0,
        first=None,
        is_judged=True,
        vector=unit,
    )
    return replace(event, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    store = MilvusStore(str(tmp_path_factory.mktemp("milvus") / "test.db"), SPACE, OWNER)
    store.open()
    yield store
    store.close()


@pytest.fixture(params=["memory", "milvus"])
def store(request: pytest.FixtureRequest, milvus: MilvusStore) -> VectorStore:
    if request.param == "memory":
        return MemoryStore()
    milvus.drop(before_arrival=1 << 40)
    return milvus


def found(some: Sequence[Found]) -> list[tuple[str, float]]:
    return [(each.event.id, round(each.similarity, 5)) for each in some]


def test_finds_the_nearest_of_each_query_and_what_came_before(store: VectorStore) -> None:
    store.upsert([stored("x", 0, [1, 0, 0]), stored("y", 1, [0, 1, 0]), stored("xy", 2, [1, 1, 0])])
    queries = np.eye(3, dtype=np.float32)[:2]
    first, second = store.search(queries, 2)
    assert found(first) == [("x", 1.0), ("xy", 0.70711)]
    assert found(second) == [("y", 1.0), ("xy", 0.70711)]
    assert [found(some) for some in store.search(queries, 5, before=1)] == [[("x", 1.0)], [("x", 0.0)]]
    assert store.count() == 3
    assert store.count(2) == 2
    assert [event.id for event in store.latest(1)] == ["y", "xy"]


def test_the_same_id_again_replaces_and_repeating_changes_nothing(store: VectorStore) -> None:
    events = [stored("a", 0, [1, 0, 0]), stored("b", 1, [1, 0, 0])]
    for _ in range(2):
        store.upsert(events)
    store.upsert([stored("a", 2, [0, 1, 0])])
    (found_there,) = store.search(np.eye(3, dtype=np.float32)[:1], 9)
    assert found(found_there) == [("b", 1.0), ("a", 0.0)]
    assert store.count() == 2
    for _ in range(2):
        store.delete(["b", "nobody"])
    assert [event.id for event in store.get(["a", "b"])] == ["a"]


def test_what_is_old_can_be_dropped_by_time_and_by_arrival(store: VectorStore) -> None:
    store.upsert([stored(f"id-{number}", number, [1, number, 0]) for number in range(20)])
    store.drop(before_time=50)
    assert sorted(event.arrival for event in store.latest(0)) == list(range(5, 20))
    store.drop(before_arrival=18)
    assert [event.id for event in store.latest(0)] == ["id-18", "id-19"]


IDS = ['a"b', "a'b", "a\\b", "é😀{x}", "x" * 4096, "%", " ", "id in ['']"]


def test_everything_comes_back_as_it_was_whatever_the_id(store: VectorStore) -> None:
    events = [
        stored(
            id,
            number,
            [1, number, 3],
            density=0.25,
            surprise=1.5,
            first=IDS[-number] if number % 2 else None,
            is_judged=bool(number % 3),
            sketch=bytes(range(120)) if number % 2 else None,
            form=TextForm(*range(13)) if number % 2 else None,
            text="é" * 1000 if number % 2 else None,
            metadata={"a": [1, 2.5, None, {"x.y": "é"}], "big": 2**53 + 1} if number % 2 else None,
        )
        for number, id in enumerate(IDS)
    ]
    store.upsert(events)
    back = {event.id: event for event in store.get(IDS)}
    assert list(back) == sorted(back, key=list(back).index)
    for event in events:
        it = back[event.id]
        assert it.vector is not None
        assert event.vector is not None
        assert np.array_equal(it.vector, event.vector)
        assert replace(it, vector=None) == replace(event, vector=None)
    assert not isnan(back["%"].density)
    store.upsert([stored("unknown", 99, [1, 0, 0])])
    assert isnan(store.get(["unknown"])[0].density)


def test_positions_are_kept_by_partition(store: VectorStore) -> None:
    store.save_positions({0: StoredUpTo(5, 7), 3: StoredUpTo(2**40, 8)})
    store.save_positions({0: StoredUpTo(6, 9)})
    assert store.positions() == {0: StoredUpTo(6, 9), 3: StoredUpTo(2**40, 8)}


def test_a_collection_of_another_topic_is_refused(milvus: MilvusStore) -> None:
    other = MilvusStore(milvus._uri, SPACE, OWNER | {"topic": "others"})
    with pytest.raises(ConfigurationError, match=r"another topic .topic 'vectors' instead of 'others'."):
        other.open()
    again = MilvusStore(milvus._uri, SPACE, OWNER)
    again.open()
    assert again.collection == f"streamer_{SPACE.id}"


def test_bad_answers_and_no_answers_are_unreachable(milvus: MilvusStore) -> None:
    milvus.upsert([stored("x", 0, [1, 0, 0])])
    with pytest.raises(Unreachable, match=r"Milvus at .*test\.db"):
        milvus.search(np.ones((1, 5), np.float32), 1)
    nobody = MilvusStore("http://127.0.0.1:1", SPACE, OWNER, timeout=1.0)
    with pytest.raises(Unreachable, match=r"Milvus at http://127\.0\.0\.1:1: Fail connecting"):
        nobody.open()
