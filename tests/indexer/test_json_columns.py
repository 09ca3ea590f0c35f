"""Numbers read by their place: each is what JSON says it is, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.indexer.json_columns import read_json_values
from streamer.worker.json_vectors import json_vectors


def value_of(id: str, vector: bytes) -> bytes:
    return b'{"id":%b,"vector":%b,"text":"hello"}' % (orjson.dumps(id), vector)


def as_json_says(values: Sequence[bytes]) -> bytes:
    return np.array([orjson.loads(value)["vector"] for value in values]).astype(np.float32).tobytes()


NUMBERS = st.tuples(st.booleans(), st.integers(0, 99_999_999) | st.sampled_from([0, 1, 99_999_999, 50_000_000]))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=200))
def test_each_number_is_what_json_says(pairs: list[tuple[tuple[bool, int], tuple[bool, int]]]) -> None:
    """Minus zero, too; more of them than are read at a time."""
    texts = [",".join(f"{'-' if minus else ' '}0.{number:08}" for minus, number in pair) for pair in pairs]
    values = [value_of(str(place), f"[{text}]".encode()) for place, text in enumerate(texts)]
    found = read_json_values([str(place) for place in range(len(values))], values, 2)
    assert found is not None
    vectors, documents = found
    assert vectors.tobytes() == as_json_says(values)
    assert [document["text"] for document in documents] == ["hello"] * len(values)


@pytest.mark.parametrize("dimensions", [1, 3, 384])
def test_what_the_worker_writes_is_read(dimensions: int) -> None:
    rows = np.random.default_rng(0).normal(size=(150, dimensions)).astype(np.float32)
    rows /= 1.1 * np.abs(rows).max()
    ids = ['with "quotes"', *(f"event-{place}" for place in range(1, len(rows)))]
    values = [value_of(id, bytes(text)) for id, text in zip(ids, json_vectors(list(rows)), strict=True)]
    found = read_json_values(ids, values, dimensions)
    assert found is not None
    assert found[0].tobytes() == as_json_says(values)
